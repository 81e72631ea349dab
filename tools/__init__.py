"""What works on the project and is no part of it: set-up, checks of the documentation, generated pictures."""
