"""Stage 5: answer which release a requirement means, and with what token its closure is read."""
