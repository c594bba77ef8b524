"""Starting ranks with an MPI, supervising them, and explaining their end."""
