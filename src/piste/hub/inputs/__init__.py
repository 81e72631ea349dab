"""The dialect of Nix's flake inputs: an adapter over the registry, which nothing else knows of."""
