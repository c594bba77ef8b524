"""What a training leaves: history, report and plot."""
