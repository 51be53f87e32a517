"""The compiled training epoch. All modules but `supports` need Numba."""
