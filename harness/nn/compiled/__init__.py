"""The kernels compiled with Numba. `supports` and `numba_loading` can be imported without it."""
