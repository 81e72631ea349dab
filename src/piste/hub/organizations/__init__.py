"""Organizations: their members, their upstream caches, their keys. Where everything else belongs to."""
