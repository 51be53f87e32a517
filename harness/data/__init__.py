"""The data: files, preprocessing, and the batches a network is fed."""
