"""Which kernels are compiled, and when."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("numba", reason="python -m pip install numba")

SCRIPT = """
import sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from harness.data.dataset import Dataset, Part
from harness.data.normalization import Affine
from harness.nn.activations import GELU, ReLU
from harness.nn.convolution import Conv2D, Flatten, MaxPool2D, Reshape
from harness.nn.layers import Activate, Dense, Dropout
from harness.nn.network import Network
from harness.nn.optimizers import Adam
from harness.training.options import Options
from harness.training.trainer import Trainer

def kernels():
    names = [name for name in sys.modules if name.startswith("harness.nn.compiled")]
    found = {k for name in names for k in vars(sys.modules[name]).values()
             if isinstance(k, Dispatcher)}
    return {(k.py_func.__module__, k.__name__, s) for k in found for s in k.signatures}

def stack(kind):
    first, last = [Reshape(8, 8, 1)], [Flatten(), Dense(5)]
    if kind == "conv":
        for _ in range(2):
            first += [Conv2D(3), Activate(ReLU()), MaxPool2D(2)]
        return [*first[:-1], *last]
    if kind == "own activation":
        return [*first, Conv2D(3), Activate(GELU()), MaxPool2D(2), Conv2D(2, 2), *last]
    return [Dense(64), Activate(ReLU()), Dropout(0.2), Dense(5)]

images = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.uint8)
part = Part(images, np.zeros(64, np.uint8))
for kind in ("mlp", "conv", "own activation"):
    network = Network.create(stack(kind), 64, np.random.default_rng(1))
    options = Options(batch=16, lr=0.01, epochs=1, backend="numba", max_norm=3.0, ema=0.9)
    trainer = Trainer(network, Dataset("x", "", (8, 8), 5, part, None, part),
                      Adam(network.parameters), Affine("minmax", 1.0, 0.0), options)
    before = kernels()
    trainer.train_epoch()
    print(kind, sorted(f"{module}.{name}" for module, name, _ in kernels() - before))
    print(sorted({module.split(".")[-1] for module, _, _ in before}))
"""


def test_all_kernels_are_compiled_before_the_first_epoch() -> None:
    """Those of convolutions only where there are convolutions."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    late, used = done.stdout.splitlines()[::2], done.stdout.splitlines()[1::2]
    assert late == ["mlp []", "conv []", "own activation []"]
    assert "convolution" not in used[0]
    assert "convolution" in used[1]
    assert "unpooled" not in used[0]
    assert "pooling" in used[2]


FIRST = """
import sys
import numpy as np
from harness.data.dataset import Dataset, Part
from harness.data.normalization import Affine
from harness.nn.compiled import epoch, numba_loading, steps
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import SGD, Adam
from harness.training import compiled
from harness.training.options import Options
from harness.training.trainer import Trainer

load, optimizer, kernel = {
    "epoch": (compiled.load_epoch, SGD, epoch._epoch),
    "steps": (compiled.load_steps, Adam, steps._ink_steps),
}[sys.argv[1]]
numba_loading.load()
try:
    load()
    print("loaded")
except numba_loading.NotCached:
    print("not cached")
for name in ("images", "labels"):  # mapped, as those of a data set
    np.save(f"{name}.npy", np.zeros((64, 20) if name == "images" else 64, np.uint8))
part = Part(np.load("images.npy", mmap_mode="r"), np.load("labels.npy", mmap_mode="r"),
            np.arange(60, dtype=np.uint32))
network = Network(mlp((20,), 3, width=(4,)), 20)
options = Options(batch=8, lr=0.1, epochs=1, backend="numba")
trainer = Trainer(network, Dataset("d", "0", (4, 5), 3, part, None, part),
                  optimizer(network.parameters), Affine(), options)
trainer.train_epoch()
print(len(kernel.signatures))
"""


@pytest.mark.parametrize("what", ["epoch", "steps"])
def test_kernels_are_loaded_before_it_is_known_what_is_trained(tmp_path: Path, what: str) -> None:
    environ = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    printed = [
        subprocess.run(
            [sys.executable, "-c", FIRST, what], cwd=tmp_path, env=environ, capture_output=True,
            text=True, check=True,
        ).stdout.split("\n")[:2]
        for _ in range(2)
    ]  # fmt: skip
    assert printed == [["not cached", "1"], ["loaded", "1"]]
