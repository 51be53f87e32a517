"""How many BLAS threads a training uses: a fixed rule of the step's size and the cores."""

import os
from typing import Literal

# One more BLAS thread for each so many multiplications and additions of a step's forward pass.
# Measured: a second thread slows training by 1/3 at 6.5 million (width 256, batch 32), makes no
# difference at 13 million nor, compiled, at 17 million (256-256, batch 64), and speeds it up by 1/7
# at 26 million, and by 1/4 at the 28 million of convolutions of 8 and 16 channels.
STEP_SIZE_PER_THREAD = 10_000_000


def blas_threads(
    work: int, batch: int, cores: int, configured: int | Literal["auto"] = "auto"
) -> int:
    """The number of BLAS threads: as configured, or by the rule.

    work: of a forward pass of one example, see `Network.work`. Never by a timing: products differ
    in their last bits with the number of threads.
    """
    if configured != "auto":
        return configured
    return max(1, min(cores, batch * work // STEP_SIZE_PER_THREAD))


def cores() -> int:
    """Cores this process may use: HARNESS_CORES if a launcher set it, else by CPU affinity."""
    allotted = os.environ.get("HARNESS_CORES")
    if allotted:
        return max(1, int(allotted))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
