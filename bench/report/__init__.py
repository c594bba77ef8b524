"""The report of a run: figures as JSON, page and plots; and the comparison of two."""
