"""Before anything starts: what is done, what remains, what it costs, and whether it may run."""
