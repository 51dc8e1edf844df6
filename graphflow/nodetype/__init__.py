"""Node types: their inputs, outputs and wire types, the context of a call, and the digest of their source."""
