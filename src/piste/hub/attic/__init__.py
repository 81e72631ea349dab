"""The dialect of Attic's clients, version 1, and what FlakeHub Cache's client asks beside it: an adapter."""
