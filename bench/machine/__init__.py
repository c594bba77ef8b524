"""What this machine is and can do: the roof that everything is measured against."""
