"""Small trainings end with the weights and metrics of the table, to the byte.

A refactor must not change `digests.json`. After a change of numerics, write a new table with
`python -m tests.test_digests`; the commit says what moved it.

The processor decides how sums are ordered, so every library is held to the instructions of AVX2.
The digests also depend on the versions that `constraints.txt` pins.
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

from harness.runfolder import journal
from harness.runfolder.run import Run
from tests.conftest import ROOT, RUN, command_in, run_folders

TABLE = Path(__file__).with_name("digests.json")
COMMON = (
    "experiment=smoke", "width=16", "epochs=3", "dataset.num_train=1000", "tracking=none",
    "threads=1", "checkpoint.keep=0",
)  # fmt: skip
CASES = {
    "sgd numba": ("backend=numba", "batch=32"),
    "sgd numba tanh smoothing": (
        "backend=numba", "batch=32", "activation=tanh", "label_smoothing=0.1",
    ),
    "sgd numba relu onecycle": (
        "backend=numba", "batch=32", "activation=relu", "schedule=onecycle", "lr=0.2",
    ),
    "sgd numba large batch": ("backend=numba",),
    "sgd numpy": ("backend=numpy",),
    "sgd numpy standard step": ("backend=numpy", "normalization=standard", "schedule=step"),
    "momentum": ("optimizer=momentum", "weight_decay=1e-4", "schedule=cosine"),
    "adam": ("optimizer=adam", "activation=relu", "weight_decay=1e-4"),
    "adamw": ("optimizer=adamw", "activation=tanh", "weight_decay=1e-2"),
    "dropout": ("dropout=0.3", "input_dropout=0.1", "depth=2", "activation=relu", "lr=0.1"),
    "affine ema": ("augmentation=affine", "ema=0.9", "schedule.warmup=1"),
    "elastic max_norm": ("augmentation=elastic", "max_norm=2", "optimizer=momentum"),
    "adversarial": ("adversarial=0.5", "width=[16,12]", "activation=relu", "lr=0.1"),
}  # fmt: skip
SEARCH = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "lr=interval(0.1,1)")
# No wider vectors than AVX2 has.
ENVIRONMENT = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+popcnt",
}
NOT_LEARNED = ("time/", "machine/", "model/")
VERSIONS = ("numpy", "numba", "scipy", "optuna")

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the table is one of x86 processors"
)


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of both weights files and of every metric of what was learned."""
    history = Run(folder).history()
    rows = [
        (record["epoch"], key, value.hex())
        for record in history.epochs
        for key, value in record["metrics"].items()
    ]
    rows += [(0, key, value.hex()) for key, value in history.final.items()]
    rows = sorted(row for row in rows if not row[1].startswith(NOT_LEARNED))
    contents = {
        "best": (folder / "weights/best.safetensors").read_bytes(),
        "last": (folder / "weights/last.safetensors").read_bytes(),
        "metrics": json.dumps(rows).encode(),
    }
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def train(cwd: Path, *arguments: str) -> Path:
    """The folder of the newest run after a command."""
    before = set(run_folders(cwd / "outputs"))
    done = command_in(cwd)(RUN, *arguments, timeout=300, **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    new = [folder for folder in run_folders(cwd / "outputs") if folder not in before]
    return new[-1] if new else run_folders(cwd / "outputs")[-1]


def train_case(cwd: Path, name: str) -> dict[str, str]:
    return digests(train(cwd, *COMMON, *CASES[name]))


def train_search(cwd: Path) -> dict[str, str]:
    """The last of three trials: what a search proposes counts as well."""
    return digests(train(cwd, *SEARCH, *COMMON))


def table() -> dict[str, dict[str, str]]:
    content = json.loads(TABLE.read_text())
    there = {name: metadata.version(name) for name in VERSIONS}
    if there != content["versions"]:
        pytest.skip(f"the table is for {content['versions']}; install with -c constraints.txt")
    table: dict[str, dict[str, str]] = content["digests"]
    return table


@pytest.fixture(scope="module")
def cwd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digests")


@pytest.mark.parametrize("name", CASES)
def test_a_run_ends_where_it_did(cwd: Path, name: str) -> None:
    assert train_case(cwd, name) == table()[name]


def test_a_search_ends_where_it_did(cwd: Path) -> None:
    assert train_search(cwd) == table()["search"]


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    """As after a kill in its second epoch."""
    name = "elastic max_norm"
    folder = train(tmp_path, *COMMON, *CASES[name])
    path = folder / journal.FILE_NAME
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    _, *late = sorted((folder / "checkpoints").iterdir())
    assert len(late) == 2
    for each in late:
        shutil.rmtree(each)
    assert digests(train(tmp_path, "resume=last")) == table()[name]


def main() -> None:
    """Write the table."""
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        table = {name: train_case(cwd, name) for name in CASES}
        table["search"] = train_search(cwd)
    versions = {name: metadata.version(name) for name in VERSIONS}
    TABLE.write_text(json.dumps({"versions": versions, "digests": table}, indent=1) + "\n")
    print(f"{TABLE.relative_to(ROOT)}: {len(table)} runs")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    main()
