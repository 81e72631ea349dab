"""Stage 2: remember organizations' projects and their releases."""
