"""From a flake on disk to a release on a hub, in the order of the modules' names in release.py.

Evaluation and building are Nix's; permission and the final word on completeness are the hub's.
"""
