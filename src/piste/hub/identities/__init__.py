"""Identities of a CI: whom a project trusts to publish, and the exchange of an identity for a session."""
