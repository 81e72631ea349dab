"""The one way out: everything that the hub fetches for somebody goes through here."""
