"""Machines, which trials run when, and the Ray session. Knows nothing of the phases."""
