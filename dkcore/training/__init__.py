"""A job, and what one rank does with it."""
