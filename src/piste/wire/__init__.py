"""The messages that the hub and its clients exchange, as msgspec Structs.

Pure data: no I/O, no decisions. A field is only ever added, and with a default, so that every released
client can talk with every later hub; names and meanings never change.
"""
