"""What an operator does with a hub besides serving: first token, keys, collection, checks, copies."""
