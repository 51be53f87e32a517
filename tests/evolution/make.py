"""Make the run folders of earlier versions that test_evolution.py reads.

    python -m tests.evolution.make            # all versions
    python -m tests.evolution.make 0.1

Each version is checked out from Git into a temporary worktree, and its own code trains, with the
packages that are installed now. A version whose code does not run with them any more cannot be made
again: its folder in the repository is then the only copy.

VERSION/ gets `idx`, a small data set, and `outputs` with one finished run, a sweep of two, and one
run that was interrupted; since 0.2, `search` has a search of three trials. The tracking store and
the pictures would be most of its bytes: figures are drawn blank, and the store is removed, so that
the tests begin with `sync`.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT, write_idx_folder

HERE = Path(__file__).resolve().parent
COMMITS = {"0.1": "78c0c9f", "0.2-dev": "84baeb4", "0.2": "8db7ce7"}
COMMON = (
    "dataset=idx", "dataset.dir=idx", "dataset.num_val=40", "width=8", "seed=3", "backend=numpy",
    "threads=1",
    "checkpoint.keep=1",
)  # fmt: skip
FINISHED = ("optimizer=momentum", "batch=20", "epochs=4", "dropout=0.1")
INTERRUPTED = ("optimizer=adam", "schedule=cosine", "batch=1", "epochs=16", "ema=0.9")
SWEEP = ("-m", "lr=0.1,0.2", "batch=20", "epochs=3")
SEARCHED = ("0.2",)  # the versions with a search of three trials, in `search`
SEARCH = (
    "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "lr=tag(log,interval(0.05,0.5))",
    "batch=20", "epochs=2", "outputs=search",
)  # fmt: skip
USER = ("USER", "LOGNAME", "USERNAME")
STORE = ("mlflow.db", "artifacts", "logs", "cache", "reports", "delivery.log")  # in outputs
BLANK_FIGURES = """
from matplotlib.figure import Figure

save = Figure.savefig


def blank(figure, *arguments, **options):
    figure.clear()
    save(figure, *arguments, **options | {"dpi": 10})


Figure.savefig = blank
"""


def make(version: str) -> None:
    """Make one version's folder anew."""
    with tempfile.TemporaryDirectory() as temporary:
        tree, work = Path(temporary) / "tree", Path(temporary) / "work"
        (Path(temporary) / "sitecustomize.py").write_text(BLANK_FIGURES)
        _git("worktree", "add", "--detach", str(tree), COMMITS[version])
        try:
            write_idx_folder(work / "idx")
            _train(tree, work, with_search=version in SEARCHED)
        finally:
            _git("worktree", "remove", "--force", str(tree))
        for outputs in ("outputs", "search"):
            _strip(work / outputs)
        folder = HERE / version
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(work, folder)


def _train(tree: Path, work: Path, *, with_search: bool) -> None:
    environment = os.environ | dict.fromkeys(USER, "maintainer")
    environment["PYTHONPATH"] = os.pathsep.join([str(tree), str(tree.parent)])
    run = [sys.executable, "-m", "harness.run", *COMMON]
    subprocess.run([*run, *FINISHED], cwd=work, env=environment, check=True)
    subprocess.run([*run, *SWEEP], cwd=work, env=environment, check=True)
    if with_search:
        subprocess.run([*run, *SEARCH], cwd=work, env=environment, check=True)
    process = subprocess.Popen([*run, *INTERRUPTED], cwd=work, env=environment)
    while process.poll() is None and not list(work.glob("outputs/runs/*/checkpoints/*-000006*")):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130, "it was over before it could be interrupted"


def _strip(outputs: Path) -> None:
    """Remove what is not kept, and every trace of a delivery."""
    for name in STORE:
        path = outputs / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for pattern in ("runs/*/delivered.json", "**/*.lock", "**/.lock"):
        for path in outputs.glob(pattern):
            path.unlink(missing_ok=True)


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
    for each in sys.argv[1:] or COMMITS:
        make(each)
