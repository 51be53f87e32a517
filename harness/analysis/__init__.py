"""What is computed and drawn from finished runs."""
