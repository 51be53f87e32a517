"""The training loop of the built-in trainer."""
