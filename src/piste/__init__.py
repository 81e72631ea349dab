"""Piste: publish a NixOS configuration once, and every machine that may have it runs it seconds later."""

__version__ = "0.1.0"
