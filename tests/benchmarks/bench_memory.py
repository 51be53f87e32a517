"""Anonymous memory and time per example of training, by the number of images.

    python tests/benchmarks/bench_memory.py [--images 60000 600000] [--num-val 0] [--folder DIR]

For each size, 28x28 IDX files are generated (seeded; a fifth of the pixels is ink, as in MNIST) and
extracted. Then 784-128-10 is trained on them in its own process, which reports the highest RssAnon
of /proc/self/status during training. Mapped files do not count: the system drops their pages when
it needs the memory. The first size is trained again along with every other one, because machines
are shared. The table gives the processor time per example of the training thread, on which other
load has little effect, and the wall time. Linux only.

A size of 8100000 needs 13 GB of disk while its files are extracted.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

CHUNK = 10_000
INK = 0.19  # share of MNIST's pixels that are not background


def generate(folder: Path, count: int) -> None:
    """Write four IDX files of `count` training and 1,000 test images, 10 classes, block by block.

    Each class has its own ink pixels; their values are random in each image.
    """
    from harness.data.sources import FILES

    folder.mkdir(parents=True)
    generator = np.random.default_rng(20)
    ink = np.where(generator.random((10, 784)) < INK, 255, 0).astype(np.uint8)
    for (images, labels), total in ((FILES[:2], count), (FILES[2:], 1000)):
        with (folder / images).open("wb") as pixels, (folder / labels).open("wb") as truth:
            pixels.write(bytes([0, 0, 8, 3]) + np.array([total, 28, 28], ">u4").tobytes())
            truth.write(bytes([0, 0, 8, 1]) + np.array([total], ">u4").tobytes())
            for begin in range(0, total, CHUNK):
                classes = generator.integers(0, 10, min(CHUNK, total - begin), dtype=np.uint8)
                noise = np.frombuffer(generator.bytes(784 * len(classes)), np.uint8)
                pixels.write((ink[classes] & noise.reshape(-1, 784)).tobytes())
                truth.write(classes.tobytes())


def anonymous() -> float:
    """The anonymous resident memory of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status has no RssAnon: this benchmark needs Linux")


def measure(cache: Path, digest: str, options: argparse.Namespace) -> dict[str, float]:
    """Train in this process. Returns MB, processor and wall us per example, and the test error."""
    from harness.data import normalization
    from harness.data.dataset import open_dataset
    from harness.data.split import Split
    from harness.nn.models import mlp
    from harness.nn.network import Network
    from harness.nn.optimizers import SGD
    from harness.training.options import Options
    from harness.training.trainer import Silence, Trainer

    data = open_dataset(digest, cache, Split(options.num_val))
    network = Network.create(mlp((28, 28), 10, width=128), 784, np.random.default_rng(1))
    trainer = Trainer(
        network,
        data,
        SGD(network.parameters),
        normalization.fit("minmax", data.train.inputs, data.train.rows),
        Options(batch=options.batch, lr=0.1, epochs=1, backend=options.backend),
    )
    highest, done = [anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            highest[0] = max(highest[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    processor, wall = [], []
    for _ in range(max(1, options.examples // len(data.train))):
        begin = time.thread_time(), time.perf_counter()
        trainer.train_epoch()
        processor.append((time.thread_time() - begin[0]) / len(data.train) * 1e6)
        wall.append((time.perf_counter() - begin[1]) / len(data.train) * 1e6)
    trainer.run(Silence())  # no epoch is left: this evaluates the test set
    done.set()
    watcher.join()
    return {
        "MB": max(highest[0], anonymous()),
        "processor": statistics.median(processor),
        "wall": statistics.median(wall),
        "error": trainer.evaluate(data.test)[0].error,
    }


def measure_in_process(cache: Path, digest: str, options: argparse.Namespace) -> dict[str, float]:
    """Call `measure` in a new process with one BLAS thread."""
    command = [
        sys.executable, __file__, "--inside", str(cache), digest, "--batch", str(options.batch),
        "--num-val", str(options.num_val), "--backend", options.backend,
        "--examples", str(options.examples),
    ]  # fmt: skip
    one = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}
    done = subprocess.run(command, env=os.environ | one, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Generate, train and print one row per size."""
    from harness.data.extraction import prepare
    from harness.runfolder.environment import processor

    print(
        f"{processor()}, one core; 784-128-10, batch {options.batch}, backend={options.backend}, "
        f"dataset.num_val={options.num_val}; ratios to {options.images[0]:,} images"
    )
    print(f"{'images':>10}{'anonymous MB':>14}{'more MB':>9}{'us/example':>12}{'ratio':>7}"
          f"{'wall us':>9}{'ratio':>7}  test error")  # fmt: skip
    cache, digests = folder / "cache", {}
    for count in options.images:
        generate(folder / "idx", count)
        digests[count] = prepare("idx", str(folder / "idx"), cache)
        shutil.rmtree(folder / "idx")
        first = measure_in_process(cache, digests[options.images[0]], options)
        result = measure_in_process(cache, digests[count], options)
        print(f"{count:>10,}{result['MB']:>14.1f}{result['MB'] - first['MB']:>9.1f}"
              f"{result['processor']:>12.2f}{result['processor'] / first['processor']:>7.2f}"
              f"{result['wall']:>9.2f}{result['wall'] / first['wall']:>7.2f}"
              f"  {result['error']:.2%}", flush=True)  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[60_000, 600_000])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--num-val", type=int, default=0)
    parser.add_argument("--backend", choices=["numpy", "numba"], default="numpy")
    parser.add_argument(
        "--examples", type=int, default=300_000, help="how many each process trains, whole epochs"
    )
    parser.add_argument("--folder", type=Path, help="where the files go; default: temporary")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        cache, digest = options.inside
        print(json.dumps(measure(Path(cache), digest, options)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        compare(Path(folder), options)


if __name__ == "__main__":
    main()
