"""Nix's own commands, one function each, and its daemon protocol.

Every function takes the Store that it acts on. What the results mean for a publication or a host is
not decided here.
"""
