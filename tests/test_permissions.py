"""Results that a group shares, and results that may only be read."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.runfolder.folder import all_runs
from harness.runfolder.target import Target
from harness.tracking import mlflow_private
from tests.conftest import ROOT, RUN, as_user, needs_root, python_path, small

pytestmark = [needs_root, pytest.mark.service]
GROUP = 2000
Shared = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that new files inherit their group from."""
    folder = tmp_path_factory.mktemp("shared")
    os.chown(folder, -1, GROUP)
    folder.chmod(0o2775)
    (folder / "matplotlib").mkdir()
    (folder / "matplotlib").chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def user(folder: Path) -> Shared:
    """Run `python -m MODULE ARGUMENTS...` in the folder as a user of the group with umask 002."""

    def run(number: int, *words: str, group: int = GROUP) -> subprocess.CompletedProcess[str]:
        shell = ["sh", "-c", 'umask 002; exec "$@"', "sh"]
        return subprocess.run(
            [*shell, *as_user(number, group), sys.executable, "-m", *words],
            cwd=folder,
            env=os.environ
            | python_path(ROOT)
            | {"HOME": "/", "MPLCONFIGDIR": str(folder / "matplotlib")},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture(scope="module")
def trained(user: Shared, folder: Path, idx_folder: Path) -> Path:
    """The outputs of two users who share them: one sweep, and more of it."""
    words = small(idx_folder, "epochs=2", "threads=1")
    first = user(1001, RUN, "-m", *words, "seed=1,2")
    assert (first.returncode, "Traceback" in first.stderr) == (0, False), first.stderr
    second = user(1002, RUN, "-m", *words, "seed=2,3")
    assert second.returncode == 0, second.stderr
    assert "seed=2: finished before as" in second.stdout
    return folder / "outputs"


def test_a_group_trains_and_delivers_together(trained: Path, user: Shared) -> None:
    sync = user(1002, "harness", "sync")
    assert "3 of 3 runs delivered in full" in sync.stdout
    locked = [path for path in trained.rglob("*") if not path.stat().st_mode & 0o020]
    assert not locked, "the group may write everywhere"


@pytest.mark.parametrize(
    "words",
    [
        "status", "clean --dry-run", "results", "compare --no-attach", "evaluate last",
        "predict --run last seven.png", "sync",
    ],
)  # fmt: skip
def test_everything_that_only_reads_works_for_others(
    trained: Path, user: Shared, folder: Path, words: str
) -> None:
    """A user of another group may read everything and write nothing."""
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(folder / "seven.png")
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    done = user(1003, "harness", *words.split(), group=2003)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


@pytest.mark.parametrize("words", [
    "", "-m seed=1,2", "outputs=outputs/runs/new", "-m hydra/sweeper=optuna lr=interval(0.1,1)",
])  # fmt: skip
def test_training_where_nothing_can_be_written_is_bad_input(
    trained: Path, user: Shared, idx_folder: Path, words: str
) -> None:
    done = user(1003, RUN, *small(idx_folder), *words.split(), group=2003)
    assert (done.returncode, done.stdout) == (2, "")
    line = r"error: outputs=\S+: /\S+/outputs/runs cannot be written to; name another folder\n"
    assert re.fullmatch(line, done.stderr)


@pytest.mark.parametrize("limit", ["", "until=decided"])
def test_a_dry_run_works_where_nothing_can_be_written(
    trained: Path, user: Shared, idx_folder: Path, limit: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    words = small(idx_folder, "epochs=2", "threads=1", "dropout=0,0.5", "seed=1,2,3")
    done = user(1003, RUN, "-m", "--dry-run", *words, *limit.split(), group=2003)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("6 job(s): 3 done, 3 new\n")
    assert "outputs/runs cannot be written to; name another folder\n" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_the_unfinished_run_of_another_user_is_named(
    trained: Path, user: Shared, folder: Path, idx_folder: Path
) -> None:
    """The group may write everywhere but into its folder."""
    outputs = folder / "copy"
    shutil.copytree(trained, outputs)
    run = next(run for run in all_runs(outputs) if run.name == "seed=1")
    lines = run.journal.read_bytes().splitlines(keepends=True)
    run.journal.write_bytes(b"".join(lines[:3]))
    (run.folder / "delivered.json").unlink()
    for path in (outputs, *outputs.rglob("*")):
        os.chown(path, 1001, GROUP)
    run.folder.chmod(0o755)
    sweep = ["-m", *small(idx_folder, "epochs=2", "threads=1", "seed=1,4")]
    for words in ([f"resume={run.id}"], sweep):
        done = user(1002, RUN, f"outputs={outputs}", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: {run.folder}: cannot be written to; its owner can train it\n"


def test_runs_are_told_apart_where_nothing_can_be_written(
    trained: Path, user: Shared, folder: Path
) -> None:
    first, second, *_ = (path.name for path in sorted((trained / "runs").glob("[!.]*")))
    before = sorted(folder.rglob("*"))
    done = user(1003, "harness", "diff", first, second, group=2003)
    assert done.returncode == 0, done.stderr
    assert "McNemar's p" in done.stdout
    assert "cannot be read" not in done.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        "compare", "note last text", "archive last", "rm last --yes",
        "pack last --to outputs/a.zip", "export runs last --to outputs/a.csv",
        "export figures last --to outputs/figures",
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_named_in_one_line(
    trained: Path, user: Shared, folder: Path, words: str
) -> None:
    before = sorted(folder.rglob("*"))
    done = user(1003, "harness", *words.split(), group=2003)
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(("error", "warning"))]
    assert re.fullmatch(r"(error|warning: no report): \S*outputs/\S+: Permission denied", line)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("words", ["register", "tag last team=vision", "sync --relocate"])
def test_a_database_that_may_only_be_read_is_named_in_one_line(
    trained: Path, user: Shared, folder: Path, words: str
) -> None:
    """MLflow logs a traceback of what SQLAlchemy raises, for each attempt."""
    outputs = folder / f"read-only-{words.split()[0]}"
    shutil.copytree(trained, outputs)
    for path in (outputs, *outputs.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    target = Target.local(outputs)
    assert target.database is not None
    if "--relocate" not in words:
        mlflow_private.relocate(target)
    target.database.chmod(0o444)
    outputs.chmod(0o555)
    done = user(1003, "harness", *words.split(), "--outputs", outputs.name, group=2003)
    assert done.returncode in (2, 3), done.stderr
    lines = [line for line in done.stderr.splitlines() if "mlflow.db" in line]
    what = f"{target.database}: the database and its folder must be writable; ask the owner"
    assert lines
    assert all(what in line for line in lines)
    assert "Traceback" not in done.stderr
    assert "SQL" not in done.stderr
    if words == "register":
        (line,) = done.stderr.splitlines()
        assert line == f"error: {what} for write access, or to run this command"
