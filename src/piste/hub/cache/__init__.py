"""Stage 3: keep closures and hand them out as a Nix binary cache."""
