"""Pure: versions, requirements with Cargo's grammar, and the choice of the best match."""
