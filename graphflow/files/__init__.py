"""Files of users: their digests, their names, and the workflows that ship."""
