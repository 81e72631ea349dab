"""The commands. One file a verb; show.py does all printing; main.py puts them together.

A verb reads its arguments, calls what lies below, and hands the result to show.py. It decides nothing else.
"""
