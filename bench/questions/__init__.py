"""One file a question: each verifies, then times, and compares in turn (A B A B)."""
