"""Stage 1: take in a release, all of it or nothing."""
