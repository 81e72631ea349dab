"""Stage 6: tell a host all that it needs for a deployment in one answer, and make deltas."""
