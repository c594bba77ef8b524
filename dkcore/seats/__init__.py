"""Seats: ranks without a framework that run a worker as their child, and another one when it is killed."""
