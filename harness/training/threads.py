"""Choose the number of threads of a training by a fixed rule: by step size and cores."""

import os
from typing import Literal

from harness.nn.activations import ACTIVATIONS
from harness.nn.compiled.supports import MAX_BATCH
from harness.nn.layers import Activate, Dense
from harness.nn.losses import LOSSES
from harness.nn.network import Network
from harness.nn.optimizers import OPTIMIZERS, SGD
from harness.training.options import Options

# One more thread per this many multiplications in a step's forward pass.
# Measured: a second BLAS thread slows training by 1/3 at 6.5 million (width 256, batch 32), makes
# no difference at 13 million, and speeds it up by 1/4 at 28 million (convolutions of 8 and 16
# channels).
STEP_SIZE_PER_THREAD = 10_000_000
# The step size from which a second thread is used if the kernels train a block of steps at a time.
# Measured (the two tables of docs/performance.md): it speeds training up by a third from 6.5 to
# 17 million, and by half at 85 million.
STEP_SIZE_OF_BLOCKS = 3_000_000


def threads_of(
    network: Network,
    optimizer: object,
    options: Options,
    cores: int,
    configured: int | Literal["auto"] = "auto",
) -> int:
    """The number of threads of BLAS or of the compiled kernels: as configured, or by the rule.

    optimizer: the class. The rule uses no timing, because the number of threads changes the last
    bits of matrix products.
    """
    if configured != "auto":
        return configured
    size = options.batch * network.work
    count = size // STEP_SIZE_PER_THREAD
    if size >= STEP_SIZE_OF_BLOCKS and takes_blocks(network, optimizer, options):
        count = max(count, 2)
    return max(1, min(cores, count))


def takes_blocks(network: Network, optimizer: object, options: Options) -> bool:
    """Whether compiled kernels train a block of steps at a time (nn/compiled/steps.py)."""
    layers = network.layers
    activations = [each.activation for each in layers if isinstance(each, Activate)]
    # Plain SGD with one hidden layer has a kernel for the whole epoch, for one thread.
    is_one_kernel = optimizer is SGD and options.batch <= MAX_BATCH and len(layers) == 3
    return (
        options.backend == "numba"
        and all(type(each) in (Dense, Activate) for each in layers)
        and all(type(each) in ACTIVATIONS.values() for each in activations)
        and optimizer in OPTIMIZERS.values()
        and type(options.loss) in LOSSES.values()
        and not (options.adversarial or options.max_norm is not None or options.ema)
        and not is_one_kernel
    )


def cores() -> int:
    """The cores this process may use: HARNESS_CORES if a launcher set it, else by CPU affinity."""
    allotted = os.environ.get("HARNESS_CORES")
    if allotted:
        return max(1, int(allotted))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
