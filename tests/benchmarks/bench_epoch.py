"""Epoch time of 784-W-10 on MNIST: this package and the same work in other libraries.

    python tests/benchmarks/bench_epoch.py [--threads 1] [--width 128] [--repeats 3]

The work: one epoch over 60,000 uint8 images with shuffling, normalization to [-1, 1], sigmoid
hidden layer, softmax cross-entropy, plain SGD. The peers alternate (ours, theirs, ours, ...)
because machines are shared. The table gives minimum, median and maximum of the repeats and the
ratio of each minimum to that of the first line; the same ratios follow as a Markdown table. Peers
that are not installed are listed. The floor is the two large matrix products alone.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata

LR = 0.1
Epoch = Callable[[], float]
"""Trains one epoch on images (N, 784) and labels (N,), uint8. Returns the mean loss."""


def ours(images, labels, width: int, batch: int, backend: str = "numpy") -> Epoch:
    """The trainer of this package."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from harness.data import normalization
    from harness.data.dataset import Dataset, Part
    from harness.nn.models import mlp
    from harness.nn.network import Network
    from harness.nn.optimizers import SGD
    from harness.training.options import Options
    from harness.training.threads import blas_threads, cores
    from harness.training.trainer import Trainer

    generator = np.random.default_rng(0)
    part = Part(images, labels)
    network = Network.create(mlp((28, 28), 10, width=width), images.shape[1], generator)
    trainer = Trainer(
        network,
        Dataset("mnist", "", (28, 28), 10, part, None, part),
        SGD(network.parameters),
        normalization.fit("minmax", images),
        Options(batch=batch, lr=LR, epochs=1, backend=backend),
    )
    threads = blas_threads(len(network.parameters.flat), batch, cores())

    def epoch() -> float:
        with threadpool_limits(threads):
            return trainer.train_epoch()["train/loss"]

    return epoch


def ours_over_ink(images, labels, width: int, batch: int) -> Epoch:
    """The trainer of this package with the compiled epoch."""
    return ours(images, labels, width, batch, "numba")


def floor(images, labels, width: int, batch: int) -> Epoch:
    """The two large matrix products of every step, and nothing else."""
    import numpy as np

    x = np.ones((batch, images.shape[1]), np.float32)
    w, h = np.ones((images.shape[1], width), np.float32), np.ones((batch, width), np.float32)
    gradient = np.empty_like(w)

    def epoch() -> float:
        for _ in range(len(images) // batch):
            np.matmul(x, w, out=h)
            np.matmul(x.T, h, out=gradient)
        return 0.0

    return epoch


def tutorial(images, labels, width: int, batch: int) -> Epoch:
    """NumPy as the tutorial writes it: float64, a new array for every result."""
    import numpy as np

    generator = np.random.default_rng(0)
    w1, b1 = generator.uniform(-0.08, 0.08, (images.shape[1], width)), np.zeros(width)
    w2, b2 = generator.uniform(-0.2, 0.2, (width, 10)), np.zeros(10)
    state = [w1, b1, w2, b2]

    def epoch() -> float:
        order = generator.permutation(len(images))
        x_all, y_all = images[order] / 255 * 2 - 1, np.eye(10)[labels[order]]
        total = 0.0
        for begin in range(0, len(images), batch):
            x, y = x_all[begin : begin + batch], y_all[begin : begin + batch]
            a = 1 / (1 + np.exp(-(x @ state[0] + state[1])))
            z = a @ state[2] + state[3]
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            total -= np.log((p * y).sum(axis=1)).sum()
            d2 = (p - y) / len(x)
            d1 = d2 @ state[2].T * a * (1 - a)
            for i, g in enumerate((x.T @ d1, d1.sum(axis=0), a.T @ d2, d2.sum(axis=0))):
                state[i] = state[i] - LR * g
        return total / len(images)

    return epoch


def sklearn(images, labels, width: int, batch: int) -> Epoch:
    """scikit-learn's `MLPClassifier`."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        (width,), activation="logistic", solver="sgd", alpha=0, momentum=0, batch_size=batch,
        learning_rate_init=LR, max_iter=1, warm_start=True, random_state=0, tol=0,
    )  # fmt: skip

    def epoch() -> float:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "not converged" after one epoch
            x = images.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
            model.fit(x, labels)
        return float(model.loss_)

    return epoch


def pytorch(images, labels, width: int, batch: int) -> Epoch:
    """PyTorch in eager mode."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(images.shape[1], width), torch.nn.Sigmoid(), torch.nn.Linear(width, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), LR)
    loss_of = torch.nn.CrossEntropyLoss()
    pixels, truth = torch.from_numpy(np.array(images)), torch.from_numpy(labels.astype(np.int64))

    def epoch() -> float:
        order, total = torch.randperm(len(pixels)), torch.zeros(())
        for begin in range(0, len(pixels), batch):
            rows = order[begin : begin + batch]
            x = pixels[rows].float().mul_(2 / 255).sub_(1)
            loss = loss_of(model(x), truth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        return float(total) / len(pixels)

    return epoch


def jax(images, labels, width: int, batch: int) -> Epoch:
    """JAX, one `lax.scan` per epoch."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    generator = np.random.default_rng(0)
    w1 = generator.uniform(-0.08, 0.08, (images.shape[1], width))
    w2 = generator.uniform(-0.2, 0.2, (width, 10))
    state = [tuple(jnp.asarray(p, jnp.float32) for p in (w1, np.zeros(width), w2, np.zeros(10)))]
    pixels, truth = jnp.asarray(np.array(images)), jnp.asarray(labels)
    steps = len(images) // batch  # a scan needs equal batches: the last, partial one is dropped

    def loss_of(weights, x, y):  # type: ignore[no-untyped-def]
        a, b, c, d = weights
        scores = jax.nn.log_softmax(jax.nn.sigmoid(x @ a + b) @ c + d)
        return -jnp.take_along_axis(scores, y[:, None], 1).mean()

    @jax.jit
    def scan(weights, order):  # type: ignore[no-untyped-def]
        def step(now, rows):  # type: ignore[no-untyped-def]
            x = pixels[rows].astype(jnp.float32) * (2 / 255) - 1
            loss, grad = jax.value_and_grad(loss_of)(now, x, truth[rows].astype(jnp.int32))
            return tuple(w - LR * g for w, g in zip(now, grad, strict=True)), loss

        return jax.lax.scan(step, weights, order[: steps * batch].reshape(steps, batch))

    def epoch() -> float:
        order = jnp.asarray(generator.permutation(len(images)))
        state[0], losses = scan(state[0], order)
        return float(losses.mean())

    return epoch


PEERS = {
    "ours, over ink": (ours_over_ink, "numba"),
    "ours, NumPy": (ours, "numpy"),
    "floor (two products)": (floor, "numpy"),
    "tutorial's way": (tutorial, "numpy"),
    "scikit-learn": (sklearn, "scikit-learn"),
    "PyTorch eager": (pytorch, "torch"),
    "JAX, one scan": (jax, "jax"),
}


def measure(options: argparse.Namespace) -> None:
    """Build every installed peer, warm it up, time the peers by turns, print the table."""
    import statistics
    import time

    from harness.data.dataset import load
    from harness.runfolder.environment import processor

    with tempfile.TemporaryDirectory() as cache:
        data = load(cache=cache, num_val=0)
        images, labels = data.train.inputs[: options.images], data.train.labels[: options.images]
        versions = {}
        for name, (_, package) in PEERS.items():
            try:
                versions[name] = f"{package} {metadata.version(package)}"
            except metadata.PackageNotFoundError:
                print(f"{name}: {package} is not installed")
        print(
            f"{processor()}, {options.threads} core(s); python {sys.version.split()[0]}, "
            f"{', '.join(sorted(set(versions.values())))}; width {options.width}, "
            f"n = {options.repeats}"
        )
        print(f"{'batch':>5}  {'':<22}{'min s':>8}{'median s':>10}{'max s':>8}{'ratio':>8}  loss")
        ratios: dict[str, list[str]] = {name: [] for name in versions}
        for batch in options.batch:
            epochs = {n: PEERS[n][0](images, labels, options.width, batch) for n in versions}
            seconds: dict[str, list[float]] = {name: [] for name in epochs}
            losses = {name: epoch() for name, epoch in epochs.items()}
            for _ in range(options.repeats):
                for name, epoch in epochs.items():
                    begin = time.perf_counter()
                    losses[name] = epoch()
                    seconds[name].append(time.perf_counter() - begin)
            first = min(next(iter(seconds.values())))
            for name, took in seconds.items():
                ratios[name].append(f"{min(took) / first:.2f}")
                three = (min(took), statistics.median(took), max(took))
                print(f"{batch:>5}  {name:<22}{three[0]:>8.3f}{three[1]:>10.3f}{three[2]:>8.3f}"
                      f"{ratios[name][-1]:>8}  {losses[name]:.3f}", flush=True)  # fmt: skip
        print_markdown([f"batch {batch}" for batch in options.batch], ratios)


def print_markdown(heads: list[str], ratios: dict[str, list[str]]) -> None:
    """Print the ratios as a Markdown table, one row per peer."""
    rows = [["", *heads], ["---"] * (1 + len(heads)), *([name, *r] for name, r in ratios.items())]
    for row in rows:
        print(f"| {' | '.join(row)} |")


def main() -> None:
    """Set the number of threads before any numerical library is imported."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=60_000)
    options = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    measure(options)


if __name__ == "__main__":
    main()
