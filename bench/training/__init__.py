"""A training step: what it is, whether it is right, what it holds in memory, and where its time goes."""
