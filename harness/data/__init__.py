"""Data sets: files, preprocessing, and training batches."""
