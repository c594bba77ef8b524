"""How the centers of several nodes, and the rounds of synchronous methods, come together."""
