"""Pushes: paths join a project's cache all at once, apart from any release."""
