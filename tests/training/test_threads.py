"""The number of BLAS threads is a fixed rule."""

import pytest

from harness.nn.models import count_parameters
from harness.training.threads import blas_threads


@pytest.mark.parametrize(
    ("sizes", "batch", "cores", "expected"),
    [
        ((784, 256, 10), 32, 8, 1),  # 6.5 million
        ((784, 512, 10), 64, 8, 2),  # 26 million
        ((784, 1024, 1024, 10), 1024, 8, 8),
        ((784, 1024, 1024, 10), 1024, 1, 1),
        ((4, 2), 1, 4, 1),
    ],
)
def test_the_rule(sizes: tuple[int, ...], batch: int, cores: int, expected: int) -> None:
    parameters = count_parameters(sizes)
    assert blas_threads(parameters, batch, cores) == expected
    assert blas_threads(parameters, batch, cores, 3) == 3
