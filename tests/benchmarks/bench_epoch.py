"""Seconds of an epoch in the settings that people train, beside JAX and PyTorch.

    python tests/benchmarks/bench_epoch.py [--threads 1 2] [--only TEXT] [--epochs 6]

Each peer trains 784-...-10 on the 60,000 images of MNIST, or a network for as many rows of a table
of noise, for some epochs; the peers of a setting take turns, epoch by epoch, in one process,
because machines are shared. An epoch's seconds are the median of the epochs from the third on: the
first ones are not what a training costs. The ratios are of other peers' seconds to ours with Numba:
above 1, ours is faster. Peers that are not installed are left out; `products`, only the matrix
products, is for networks with convolutions.
Needs `pip install jax torch` for the peers.

    python tests/benchmarks/bench_epoch.py --check

The same; ends with 1 if a ratio is more than 10 % below that of docs/performance.md.

    python tests/benchmarks/bench_epoch.py --threads 2 --busy 1

The same beside busy processes, which compete for the cores.

    python tests/benchmarks/bench_epoch.py --flat [--epochs 50]

Seconds of the last five epochs over those of the first five, for every optimizer and backend.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from peers import Setting, jax, numba, numpy, products, pytorch

FIRST = 2  # epochs that are not measured
SETTINGS = [
    Setting("128 sigmoid, sgd, 16", (128,), "sigmoid", "sgd", 0.1, 16),
    Setting("512 relu, sgd, 64", (512,), "relu", "sgd", 0.1, 64),
    Setting("256-256 relu, sgd, 64", (256, 256), "relu", "sgd", 0.1, 64),
    Setting("256 relu, momentum, 64", (256,), "relu", "momentum", 0.01, 64),
    Setting("256 relu, adam, 64", (256,), "relu", "adam", 1e-3, 64),
    Setting("512-512 relu, adam, 128", (512, 512), "relu", "adam", 1e-3, 128),
    Setting(
        "512-512 relu, momentum, dropout 0.2, 128",
        (512, 512), "relu", "momentum", 0.01, 128, dropout=0.2,
    ),
    Setting(
        "1024-1024 relu, adam, dropout 0.5, 128",
        (1024, 1024), "relu", "adam", 1e-3, 128, dropout=0.5,
    ),
    Setting(
        "1536-1024-512 relu, adam, smoothing, 192",
        (1536, 1024, 512), "relu", "adam", 2e-3, 192, label_smoothing=0.05,
    ),
    Setting("256 tanh, adam, 32", (256,), "tanh", "adam", 1e-3, 32),
    Setting("256 relu, nesterov, 64", (256,), "relu", "momentum", 0.01, 64, nesterov=True),
    Setting("256 relu, adamw 0.01, 64", (256,), "relu", "adamw", 1e-3, 64, weight_decay=0.01),
    Setting(
        "256 relu, sgd, weight decay, smoothing, 64",
        (256,), "relu", "sgd", 0.1, 64, weight_decay=1e-4, label_smoothing=0.1,
    ),
    Setting(
        "256-256 relu, nesterov, max-norm, ema, 64",
        (256, 256), "relu", "momentum", 0.01, 64, nesterov=True, max_norm=2.0, ema=0.999,
    ),
    Setting("256-256 gelu, adam, 64", (256, 256), "gelu", "adam", 1e-3, 64),
    Setting("256-256 silu, adam, 64", (256, 256), "silu", "adam", 1e-3, 64),
    Setting("512 relu, sgd, 64, no background", (512,), "relu", "sgd", 0.1, 64, background=False),
    Setting(
        "256 relu, adam, 64, no background",
        (256,), "relu", "adam", 1e-3, 64, background=False,
    ),
    Setting("20 columns, 64-64 relu, adam, 32", (64, 64), "relu", "adam", 1e-3, 32, features=20),
    Setting(
        "100 columns, 256-256 relu, adam, 128",
        (256, 256), "relu", "adam", 1e-3, 128, features=100,
    ),
    Setting("conv 8-16, 128 relu, adam, 64", (128,), "relu", "adam", 1e-3, 64, channels=(8, 16)),
    Setting(
        "conv 32-64 of 5 x 5, 256 relu, adam, 128",
        (256,), "relu", "adam", 3e-3, 128, channels=(32, 64), kernel=5,
    ),
]  # fmt: skip
PEERS = {"numba": (numba, "numba"), "numpy": (numpy, "numpy"), "jax": (jax, "jax"),
         "pytorch": (pytorch, "torch"), "products": (products, "numpy")}  # fmt: skip


def examples(setting: Setting):
    """MNIST's training images, or a table of as many rows (60000, features), and their labels."""
    import numpy as np

    from harness.data.dataset import load

    with tempfile.TemporaryDirectory() as cache:
        train = load("mnist", cache=cache, num_val=0).train
        inputs, labels = train.inputs.copy(), train.labels.copy()
    if setting.features:
        table = np.random.default_rng(1).random((len(labels), setting.features), np.float32)
        inputs = 255 * table
    elif not setting.background:
        is_empty = inputs == 0
        noise = np.random.default_rng(1).integers(1, 64, np.count_nonzero(is_empty), np.uint8)
        inputs[is_empty] = noise
    return inputs, labels


def measured(setting: Setting, names: list[str], epochs: int) -> dict[str, list[float]]:
    """Seconds of each epoch of each peer, which take turns."""
    data = examples(setting)
    peers = {name: PEERS[name][0](setting, *data) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    losses = {}
    for _ in range(epochs):
        for name, epoch in peers.items():
            begin = time.perf_counter()
            losses[name] = epoch()
            seconds[name].append(time.perf_counter() - begin)
    print(json.dumps({"loss": losses}), file=sys.stderr)
    return seconds


def in_process(setting: Setting, names: list[str], epochs: int, threads: int):
    """`measured` in a new process that has `threads` cores."""
    number = SETTINGS.index(setting)
    command = [sys.executable, __file__, "--one", str(number), "--epochs", str(epochs)]
    variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = dict.fromkeys(variables, str(threads))
    output = subprocess.run(
        [*command, "--threads", str(threads), "--peers", *names],
        env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    return json.loads(output.splitlines()[-1])


def grid(options: argparse.Namespace) -> int:
    """Print the table, a line at a time. Returns the number of ratios below the published ones."""
    import numpy as np
    from threadpoolctl import threadpool_info

    from harness.runfolder.environment import processor

    assert np.dot is not None  # loads BLAS
    names = [n for n in options.peers if find_spec(PEERS[n][1])]
    published, slower = published_ratios() if options.check else {}, []
    (blas,) = (each for each in threadpool_info() if each["user_api"] == "blas")
    print(f"{processor()}; NumPy's BLAS: {blas['internal_api']} for {blas['architecture']}")
    print(f"seconds of {names[0]}; ratios of the others (least and most)")
    for threads in options.threads:
        head = f"{threads} core{'s' * (threads > 1)}" + f", {options.busy} busy" * bool(
            options.busy
        )
        print(f"\n| {head} | {' | '.join(names)} |", flush=True)
        print("|---" * (1 + len(names)) + "|")
        for setting in SETTINGS:
            if options.only not in setting.name:
                continue
            own = [n for n in names if n != "products" or setting.channels]
            seconds = in_process(setting, own, options.epochs, threads)
            ours = seconds[names[0]][FIRST:]
            cells = [f"{median(ours):.3f} s"]
            for name in names[1:]:
                if name not in seconds:
                    cells.append("")
                    continue
                pairs = [b / a for a, b in zip(ours, seconds[name][FIRST:], strict=True)]
                ratio = median(seconds[name][FIRST:]) / median(ours)
                cells.append(f"{ratio:.2f} ({min(pairs):.2f} to {max(pairs):.2f})")
                before = published.get((head, setting.name, name))
                if before is not None and ratio < 0.9 * before:
                    slower.append(
                        f"{head}, {setting.name}: {name} {before:.2f} before, {ratio:.2f}"
                    )
            print(f"| {setting.name} | {' | '.join(cells)} |", flush=True)
    if options.check:
        print("\n" + "\n".join(slower or ["no ratio is more than 10 % below the published one"]))
    return len(slower)


def published_ratios() -> dict[tuple[str, str, str], float]:
    """The ratios of the tables in docs/performance.md, by cores, setting and peer."""
    text = (Path(__file__).parents[2] / "docs/performance.md").read_text(encoding="utf-8")
    found, head, names = {}, "", []
    for line in text.splitlines():
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[:1] == ["numba"]:
            head, names = first, cells
        elif first in {setting.name for setting in SETTINGS}:
            for name, cell in list(zip(names, cells, strict=True))[1:]:
                if cell:
                    found[head, first, name] = float(cell.split()[0])
    return found


def flat(options: argparse.Namespace) -> None:
    """Print the last epochs' seconds over the first ones', per optimizer and backend."""
    for name in ("numba", "numpy"):
        for setting in SETTINGS:
            if options.only not in setting.name:
                continue
            (seconds,) = in_process(setting, [name], options.epochs, options.threads[0]).values()
            first, last = median(seconds[1:6]), median(seconds[-5:])
            print(f"{name} {setting.name}: {first:.3f} s, then {last / first:.2f} x", flush=True)


def main() -> None:
    """Measure the grid, or one setting in this process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--peers", nargs="+", default=list(PEERS))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--busy", type=int, default=0, help="processes that compete for the cores")
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    options.epochs = options.epochs or (50 if options.flat else 6)
    sys.path.insert(0, str(Path(__file__).parents[2]))
    if options.one is not None:
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))[-options.threads[0] :]
            os.sched_setaffinity(0, cores)
        print(json.dumps(measured(SETTINGS[options.one], options.peers, options.epochs)))
        return
    with ExitStack() as stack:
        for _ in range(options.busy):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.kill)
        if options.flat:
            flat(options)
        else:
            sys.exit(1 if grid(options) else 0)


if __name__ == "__main__":
    main()
