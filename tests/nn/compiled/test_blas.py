"""Products in compiled kernels against NumPy's."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="python -m pip install numba")

from harness.nn.compiled.blas import AS_IS, TURNED, product, sgemm

M, N, K = 5, 7, 3


def test_numpys_blas_is_found() -> None:
    """NumPy's own packages for Linux bring OpenBLAS."""
    assert sgemm() != 0


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize(("turn_a", "turn_b"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("address", [sgemm(), 0], ids=["BLAS", "loops"])
def test_product_of_parts_of_arrays(address: int, turn_a: bool, turn_b: bool, beta: float) -> None:
    """Three matrices inside longer rows, which begin somewhere in an array."""
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=400).astype(np.float32) for _ in range(3)]
    starts, distances = (11, 5, 30), (9, 10, 12)
    shapes = (K, M) if turn_a else (M, K), (N, K) if turn_b else (K, N), (M, N)
    a, b, c = (
        np.lib.stride_tricks.as_strided(array[start:], shape, (4 * distance, 4))
        for array, start, distance, shape in zip(arrays, starts, distances, shapes, strict=True)
    )
    expected = 2 * (a.T if turn_a else a) @ (b.T if turn_b else b) + beta * c
    before = arrays[2].copy()
    of_a, of_b = (TURNED if turned else AS_IS for turned in (turn_a, turn_b))
    product(
        address, of_a, of_b, M, N, K, np.float32(2), arrays[0], 11, 9, arrays[1], 5, 10,
        np.float32(beta), arrays[2], 30, 12,
    )  # fmt: skip
    np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-5)
    changed = np.flatnonzero(arrays[2] != before)
    inside = (30 + 12 * np.arange(M)[:, None] + np.arange(N)).ravel()
    assert set(changed) <= set(inside)
