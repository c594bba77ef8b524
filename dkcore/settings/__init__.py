"""The settings of a training, each stated once, and what the fronts make of the statement. To add one, open settings.py."""
