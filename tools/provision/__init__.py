"""Set-up: a Python environment from hashed locks, and a portable Nix, both inside of this folder.

It uses the standard library alone, because it runs before anything is installed, and must never write
outside of the clone.
"""
