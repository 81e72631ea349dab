"""Pure: what Nix itself defines, from store paths to the daemon's messages. No I/O, no async."""
