"""The audit log: what changed and what was refused, append-only, each entry chained to the one before."""
