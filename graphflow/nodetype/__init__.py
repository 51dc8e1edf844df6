"""What a node type is: its inputs, outputs and wire types, its context, and the digest of its source."""
