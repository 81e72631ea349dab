"""Talking to a hub: the login, single requests (http.client, quick to start) and transfers (aiohttp).

Nothing in here decides what to publish or what to run.
"""
