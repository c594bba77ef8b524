"""A rank among the others: its world, its share of the machine, its life and its end."""
