"""`python -m harness.run`: compose, validate, freeze, execute, summarize."""
