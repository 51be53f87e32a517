"""What a trained network is for: reading people's own digits."""
