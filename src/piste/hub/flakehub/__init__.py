"""The dialect of FlakeHub's clients: an adapter that translates and decides nothing."""
