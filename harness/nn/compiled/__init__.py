"""The compiled training epoch. Needs Numba."""
