"""The cost of deforming images relative to the forward pass of 784-1024-1024-10 on the same images.

    python tests/benchmarks/bench_augmentation.py [--threads 1 2] [--pairs 20] [--images 2560]

The two alternate, because machines are shared. The table gives the median over all pairs of the
ratio of wall times, and the ratio of the total processor times. The deformations are those of
conf/augmentation/elastic.yaml and affine.yaml, in NumPy and compiled, where BLAS has one thread as
in a training. The forward pass runs in batches of 128 on normalized inputs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

BATCH = 128
KINDS = ("affine", "elastic")
Work = Callable[[], None]


def timed(work: Work) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    begin = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def measure(threads: int, pairs: int, count: int) -> None:
    """Print one line per kind of deformation."""
    import numpy as np
    import yaml
    from threadpoolctl import ThreadpoolController

    from harness.data.augmentation import Augmentation
    from harness.data.dataset import load
    from harness.nn.activations import ReLU
    from harness.nn.compiled.deformation import Deformation
    from harness.nn.compiled.workers import Workers
    from harness.nn.models import mlp
    from harness.nn.network import Network

    conf = Path(__file__).resolve().parents[2] / "conf/augmentation"
    with tempfile.TemporaryDirectory() as cache:
        pixels = np.array(load(cache=cache, num_val=0).train.inputs[:count])
    generator, blas = np.random.default_rng(1), ThreadpoolController()
    layers = mlp((28, 28), 10, width=1024, depth=2, activation=ReLU())
    network = Network.create(layers, 784, generator)
    out = np.empty(pixels.shape, np.float32)
    inputs = (pixels / 255).astype(np.float32)

    def forward() -> None:
        for begin in range(0, count, BATCH):
            network.forward(inputs[begin : begin + BATCH])

    for kind in KINDS:
        settings = yaml.safe_load((conf / f"{kind}.yaml").read_text())
        settings.pop("name")
        of_numpy = Augmentation((28, 28), **settings)
        compiled = Deformation(of_numpy, Workers(threads))

        def deform(compiled: Deformation = compiled) -> None:
            with blas.limit(limits=1, user_api="blas"):
                compiled(pixels, generator, out)

        compare(kind, threads, partial(of_numpy, pixels, generator, out), forward, pairs, count)
        compare(f"{kind} compiled", threads, deform, forward, pairs, count)


def compare(name: str, threads: int, deform: Work, forward: Work, pairs: int, count: int) -> None:
    """Print one line: the two alternate."""
    took = [(timed(deform), timed(forward)) for _ in range(pairs + 1)][1:]  # after a warm-up
    wall = statistics.median(a[0] / b[0] for a, b in took)
    cpu = sum(a[1] for a, _ in took) / sum(b[1] for _, b in took)
    least = [min(pair[side][0] for pair in took) / count * 1e6 for side in (0, 1)]
    print(f"{threads:>7}  {name:<17}{least[0]:>12.1f}{least[1]:>12.1f}{wall:>12.2f}{cpu:>12.2f}",
          flush=True)  # fmt: skip


def main() -> None:
    """Measure each number of threads in its own process: BLAS reads it when it loads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        measure(options.threads[0], options.pairs, options.images)
        return
    from harness.runfolder.environment import processor

    print(f"{processor()}; {options.images} images, n = {options.pairs} pairs", flush=True)
    print(f"{'threads':>7}  {'':<17}{'deform us':>12}{'forward us':>12}{'wall ratio':>12}"
          f"{'cpu ratio':>12}", flush=True)  # fmt: skip
    for threads in options.threads:
        names = ("OPENBLAS", "OMP", "MKL")
        limits = {f"{name}_NUM_THREADS": str(threads) for name in names}
        more = ["--threads", str(threads), "--pairs", str(options.pairs)]
        subprocess.run(
            [sys.executable, __file__, "--inside", *more, "--images", str(options.images)],
            env=os.environ | limits,
            check=True,
        )


if __name__ == "__main__":
    main()
