"""Data sets: files, preprocessing, and the batches that a network is trained on."""
