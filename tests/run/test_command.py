"""The command as a user runs it: real processes, real files, a real MLflow store.

Covers: harness/run/completion.py, harness/run/tasks.py
"""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.commands.register import best_of
from harness.job import forkserver
from harness.nn import metrics
from harness.runfolder import checkpoint, journal
from harness.runfolder.folder import all_runs
from harness.runfolder.run import Run
from tests.conftest import (
    ROOT,
    RUN,
    Command,
    as_user,
    bash,
    command_in,
    histories,
    needs_root,
    python_path,
    run_folders,
    small,
    start,
    wait_for,
    write_idx_folder,
)

EPOCHS = ("epochs=3", "lr=0.5")


def wait_for_epoch(cwd: Path) -> Path:
    """The first run folder that has an epoch in its journal."""

    def trained() -> Path | None:
        runs = all_runs(cwd / "outputs")
        return next((run.folder for run in runs if run.history().epochs), None)

    folder = wait_for(trained, 60)
    assert folder is not None
    return folder


@pytest.mark.parametrize(
    ("redirection", "overrides", "jobs"),
    [
        ("| head -1", "-m seed=1,2", 2),
        ("> /dev/full", "-m seed=1,2 hydra/launcher=joblib", 2),
        ("<&- >&- 2>&-", "", 1),
    ],
)
def test_what_is_shown_fails_nothing(
    tmp_path: Path, idx_folder: Path, redirection: str, overrides: str, jobs: int
) -> None:
    words = shlex.join(small(idx_folder, "tracking=none", "epochs=2", "threads=1"))
    line = f"'{sys.executable}' -m {RUN} {words} {overrides} {redirection}; echo ${{PIPESTATUS[0]}}"
    done = bash(tmp_path, line)
    assert done.stdout.splitlines()[-1] == "0", "the status is that of the work"
    full = "standard output: No space left on device; the rest is not shown\n"
    assert done.stderr == (full if "full" in redirection else "")
    assert [(run.status, len(run.epochs)) for run in histories(tmp_path)] == [
        ("FINISHED", 2)
    ] * jobs


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_names_in_a_terminal_are_no_markup(tmp_path: Path, idx_folder: Path, launcher: str) -> None:
    """Nor is one that the terminal's encoding lacks an error."""
    ours, theirs = pty.openpty()
    words = small(idx_folder, "tracking=none", "epochs=2", "threads=1", "seed=1,2")
    name = 'tracking.experiment="a [/b] [wip] Größe"'
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, "-m", *words, name, f"hydra/launcher={launcher}"],
        cwd=tmp_path,
        env=os.environ | python_path(ROOT) | {"PYTHONIOENCODING": "ascii", "TERM": "xterm"},
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = b""
    try:
        while more := os.read(ours, 4096):
            shown += more
    except OSError:  # the other end was closed
        os.close(ours)
    assert process.communicate(timeout=60) == (None, b"")
    assert process.returncode == 0
    assert [run.status for run in histories(tmp_path)] == ["FINISHED"] * 2
    status = command_in(tmp_path)("harness", "status", PYTHONIOENCODING="ascii")
    assert (status.returncode, status.stderr) == (0, "")
    assert "a [/b] [wip] Gr??e" in status.stdout


def test_without_a_working_matplotlib_there_is_one_warning(
    tmp_path: Path, idx_folder: Path
) -> None:
    (tmp_path / "matplotlib.py").write_text("raise RuntimeError('no fonts')\n")
    words = small(idx_folder, "tracking=none", "epochs=1", "threads=1", "seed=1,2")
    done = command_in(tmp_path)(RUN, "-m", *words, **python_path(tmp_path))
    assert done.returncode == 0
    assert done.stderr == "warning: report: RuntimeError: no fonts\n"


BROKEN_NUMBA = {
    "import": ("raise RuntimeError('no\\ncompiler')", "RuntimeError: no compiler"),
    "compile": ("def njit(function):\n    raise OSError('no libllvm')", "OSError: no libllvm"),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "crash": ("import os\nos.kill(os.getpid(), 11)", "loading Numba crashed the process"),
}


@pytest.fixture(params=BROKEN_NUMBA)
def broken_numba(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, str], str]:
    """An environment in which Numba is installed and cannot be loaded, and words that say why."""
    if request.param == "crash" and not forkserver.AVAILABLE:
        pytest.skip("Linux only: elsewhere no other process loads Numba before the command does")
    pytest.importorskip("numba", reason="python -m pip install numba")
    code, words = BROKEN_NUMBA[request.param]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/numba.py").write_text(code)
    return python_path(tmp_path / "broken"), words


@pytest.mark.parametrize("words", [(), ("-m", "seed=1,2")], ids=["run", "sweep"])
def test_with_a_broken_numba_numpy_trains(
    command: Command, tmp_path: Path, idx_folder: Path, words: tuple[str, ...],
    broken_numba: tuple[dict[str, str], str],
) -> None:  # fmt: skip
    environment, why = broken_numba
    done = command(RUN, *words, *small(idx_folder), "epochs=1", "tracking=none", **environment)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "umba" in line]
    assert line.startswith("warning: backend=auto trains with NumPy: ")
    assert why in line
    for folder in run_folders(tmp_path / "outputs"):
        assert Run(folder).config.backend == "numpy"
        assert Run(folder).is_finished


@pytest.mark.parametrize(
    "words", [(), ("-m", "hydra/sweeper=optuna", "lr=interval(0.1,0.2)")], ids=["run", "search"]
)
def test_a_broken_numba_that_was_asked_for_exits_2(
    command: Command, tmp_path: Path, idx_folder: Path, words: tuple[str, ...],
    broken_numba: tuple[dict[str, str], str],
) -> None:  # fmt: skip
    environment, why = broken_numba
    settings = (*small(idx_folder), "epochs=1", "tracking=none", "backend=numba")
    done = command(RUN, *words, *settings, **environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: backend=numba: ")
    assert why in done.stderr
    assert done.stderr.endswith("; reinstall Numba, or use backend=auto\n")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs/runs").exists()


def test_a_broken_numba_stops_a_resume(
    command: Command, tmp_path: Path, idx_folder: Path, broken_numba: tuple[dict[str, str], str]
) -> None:
    environment, why = broken_numba
    settings = (
        *small(idx_folder),
        "epochs=2",
        "tracking=none",
        "backend=numba",
        "lr=1e30",
        "activation=relu",
    )
    assert command(RUN, *settings).returncode == 1
    (folder,) = run_folders(tmp_path / "outputs")
    before = (folder / journal.FILE_NAME).read_bytes()
    done = command(RUN, "resume=last", **environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: resume=last: backend=numba: ")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert (folder / journal.FILE_NAME).read_bytes() == before


@needs_root
@pytest.mark.service
def test_a_user_without_name_home_and_priority(tmp_path: Path, idx_folder: Path) -> None:
    """As in a container, at a low priority, with a Numba cache that cannot be written."""
    tmp_path.chmod(0o777)
    words = small(idx_folder, "epochs=2")
    without = [f"--unset={name}" for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME")]
    numba = "NUMBA_CACHE_DIR=/proc/nowhere"
    done = subprocess.run(
        ["env", *without, numba, *as_user(54321, 54321), "nice", "-n", "11", sys.executable, "-m",
         RUN, *words],
        cwd=tmp_path, env=os.environ | python_path(ROOT), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (history,) = histories(tmp_path)
    assert history.create["tags"]["mlflow.user"] == "54321"
    sync = command_in(tmp_path)("harness", "sync")
    assert "1 of 1 runs delivered in full" in sync.stdout


def test_smoke(command: Command, tmp_path: Path) -> None:
    done = command(RUN, "experiment=smoke", "tracking=none")
    assert (done.returncode, done.stderr) == (0, "")
    (history,) = histories(tmp_path)
    assert history.status == "FINISHED"
    assert history.final[metrics.TEST_ERROR] < 0.5
    assert f"{history.final[metrics.TEST_ERROR]:.2%}" in done.stdout
    assert "epoch 2/2" in done.stdout
    assert os.listdir(tmp_path) == ["outputs"]  # noqa: PTH208


def test_a_run_has_the_promised_artifacts(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    assert command(RUN, *small(idx_folder, *EPOCHS, "tracking=none")).returncode == 0
    (folder,) = run_folders(tmp_path / "outputs")
    history = Run(folder).history()
    for path in history.artifacts:
        assert (folder / path).stat().st_size > 0
    assert {"weights/last.safetensors", "weights/best.safetensors", "config.yaml"} <= set(
        history.artifacts
    )
    with np.load(folder / "predictions/test.npz") as predictions:
        wrong = predictions["probabilities"].argmax(axis=1) != predictions["labels"]
    assert history.final[metrics.TEST_ERROR] == wrong.mean()
    arrays, description = checkpoint.load(folder / "weights/best.safetensors")
    assert arrays["layer1.weights"].shape == (30, 8)
    assert description["normalization"] == {"name": "minmax", "scale": 2 / 255, "shift": -1.0}
    assert description["epoch"] == history.final[metrics.BEST_EPOCH]
    assert [record["epoch"] for record in history.epochs] == [1, 2, 3]


def test_the_same_seed_gives_the_same_bits(command: Command, tmp_path: Path) -> None:
    for _ in range(2):
        command(RUN, "experiment=smoke", "tracking=none")
    first, second = (
        (folder / "weights/last.safetensors").read_bytes()
        for folder in run_folders(tmp_path / "outputs")
    )
    assert first == second


@pytest.mark.parametrize(
    "override",
    ["bach=64", "batch=0", "batch=70000", "lr=nan", "normalization=minmx", "--bad-flag",
     "dataset.num_val=60000", "batch=1,2", "tracking=sever", "tracking.uri=http://localhost:5000",
     "objective=[val/error,parameters]", "-m objective=[val/error,parameter]",
     "-m objective=[val/error,parameters] until=decided seed=1,2,3"],
)  # fmt: skip
def test_bad_input_exits_2_and_creates_nothing(
    command: Command, tmp_path: Path, override: str
) -> None:
    done = command(RUN, *override.split(" "))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [
    "outputs=file", "outputs=file/runs", "outputs=file resume=last", "-m outputs=file seed=1,2",
    "-m outputs=file hydra/sweeper=optuna lr=interval(0.1,1)",
])  # fmt: skip
def test_a_file_in_place_of_outputs_is_named(command: Command, tmp_path: Path, words: str) -> None:
    (tmp_path / "file").write_text("")
    done = command(RUN, *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: outputs=file")
    assert done.stderr.endswith("file is a file; name a folder\n")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("target", ["disk/runs", "outputs"])
@pytest.mark.parametrize("words", ["", "--dry-run", "resume=last", "-m seed=1,2"])
def test_a_link_to_nothing_in_place_of_outputs_is_named(
    command: Command, tmp_path: Path, target: str, words: str
) -> None:
    """As to a disk that is not mounted, or to itself."""
    (tmp_path / "outputs").symlink_to(target)
    done = command(RUN, *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: outputs=outputs: outputs is a link to {target}, which is not there; make that "
        "folder, or name another one\n"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["outputs"]


@pytest.mark.parametrize("words", ["", "--help", "-m seed=1,2"])
def test_a_working_directory_that_was_removed_is_named(tmp_path: Path, words: str) -> None:
    done = bash(tmp_path, f"mkdir x; cd x; rmdir ../x; '{sys.executable}' -m {RUN} {words}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the working directory was removed; change to another one\n"


def test_the_home_directory_is_expanded(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    (tmp_path / "data").symlink_to(idx_folder)
    words = [word for word in small(idx_folder) if not word.startswith("dataset.dir")]
    words += ['outputs="~/runs"', 'dataset.dir="~/data"', "epochs=1", "tracking=none"]
    done = command(RUN, *words, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "~").exists()
    status = command("harness", "status", "--outputs=~/runs", HOME=str(tmp_path))
    assert "FINISHED" in status.stdout
    unknown = command(RUN, 'outputs="~nobody-here/runs"')
    assert unknown.stderr.startswith("error: outputs=~nobody-here/runs: ~nobody-here has no home")


def test_damaged_data_exits_2_before_any_run(command: Command, tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "own", suffix=".gz")
    path = folder / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    done = command(RUN, "dataset=idx", "dataset.dir=own")
    assert done.returncode == 2
    assert "train-images-idx3-ubyte.gz: the gzip stream is damaged" in done.stderr
    assert not (tmp_path / "outputs/runs").exists()


def test_a_failing_job_does_not_end_the_sweep(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    done = command(RUN, "-m", *small(idx_folder, *EPOCHS, "tracking=none"), "lr=0.5,3e38,0.4")
    assert done.returncode == 1
    assert [run.status for run in histories(tmp_path)] == ["FINISHED", "FAILED", "FINISHED"]
    failed = histories(tmp_path)[1]
    assert "failed: lr=3e+38" in done.stderr
    assert "lr=3e+38 is probably too high" in (failed.error or "")
    assert "traceback.txt" in failed.artifacts


def test_a_continued_run_has_its_name_in_this_sweep(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    small_ = small(idx_folder, *EPOCHS, "tracking=none")
    command(RUN, "-m", *small_, "lr=3e38,0.5", "seed=1")
    (first,) = [run for run in histories(tmp_path) if run.params["lr"] > 1]
    done = command(RUN, "-m", *small_, "lr=3e38", "seed=1,2")
    assert done.returncode == 1
    assert len(histories(tmp_path)) == 3
    assert first.name not in done.stderr.replace("lr=3e+38 is probably", "")
    assert f"seed=1 ({first.run}) failed: " in done.stderr
    assert f"\nfailed: seed=1 ({first.run}): " in done.stderr


def test_a_repeated_sweep_reuses_what_is_finished(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    first = command(RUN, "-m", *small(idx_folder, *EPOCHS, "tracking=none"), "seed=1,2")
    again = command(RUN, "-m", *small(idx_folder, *EPOCHS, "tracking=none"), "seed=1,2")
    larger = command(RUN, "-m", *small(idx_folder, *EPOCHS, "tracking=none"), "seed=1,2,3")
    assert [done.returncode for done in (first, again, larger)] == [0, 0, 0]
    assert "epoch" not in again.stdout.split("mean ±")[0]
    runs = histories(tmp_path)
    assert len(runs) == 3
    assert [len(run.tags["sweep"].split(",")) for run in runs] == [2, 2, 1]
    assert len(list((tmp_path / "outputs/sweeps").glob("*.json"))) == 2


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_killed_and_130(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "-m", "tracking=none", "epochs=500", "seed=1,2")
    folder = wait_for_epoch(tmp_path)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert Run(folder).history().status == "KILLED"
    assert [run.status for run in histories(tmp_path)] == ["KILLED", "CREATED"]


@pytest.mark.fault
def test_sigkill_of_the_command_ends_its_job_and_delivery(tmp_path: Path) -> None:
    process = start(tmp_path, "epochs=500")
    folder = wait_for_epoch(tmp_path)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 3  # the job, what forked it, and the delivery
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert Run(folder).history().status == "KILLED"


@pytest.mark.fault
def test_sigkill_of_a_job_affects_no_other(tmp_path: Path) -> None:
    process = start(tmp_path, "-m", "tracking=none", "epochs=500,1")
    record = Run(wait_for_epoch(tmp_path)).history().start
    assert record is not None
    psutil.Process(record["pid"]).kill()
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert [run.status for run in histories(tmp_path)] == ["KILLED", "FINISHED"]


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_table_equals_database_equals_journals(tmp_path: Path, idx_folder: Path) -> None:
    from harness.runfolder.target import Target
    from harness.tracking.store import Store

    command = command_in(tmp_path)
    done = command(RUN, "-m", *small(idx_folder, *EPOCHS), "batch=10,20,40")
    assert (done.returncode, done.stderr) == (0, "")
    (plan,) = (tmp_path / "outputs/sweeps").glob("*.json")
    store = Store(Target.local(tmp_path / "outputs"))
    runs = store.runs([store.experiment("idx")], f"tags.sweep LIKE '%{plan.stem}%'")
    assert f"viewStateShareKey=sweep-{plan.stem}" in done.stdout, "the stored view of the sweep"
    assert len(runs) == 3
    rows = [line.split() for line in done.stdout.splitlines() if "FINISHED" in line]
    best = min(rows, key=lambda row: float(row[-6].rstrip("%")))
    assert [row[0] == "*" for row in rows].count(True) == 1
    assert best[0] == "*"
    for row in rows:
        history = Run(tmp_path / "outputs/runs" / row[-1]).history()
        (run,) = [run for run in runs if run.data.tags["run.id"] == row[-1]]
        batch, error, epoch, test, seconds, status, _ = [cell for cell in row if cell != "*"]
        assert run.info.run_name == f"batch={batch}"
        assert run.data.params["batch"] == batch
        assert error == f"{run.data.metrics[metrics.BEST_VAL_ERROR]:.2%}"
        assert epoch == f"{run.data.metrics[metrics.BEST_EPOCH]:.0f}"
        assert test == f"{run.data.metrics[metrics.TEST_ERROR]:.2%}"
        assert status == run.info.status
        points = store.points(run.info.run_id)
        assert seconds == f"{sum(value for _, value, _ in points[metrics.EPOCH_S]):.1f}"
        for key in (metrics.TRAIN_LOSS, metrics.VAL_ERROR, metrics.TRAIN_LR):
            assert [value for _, value, _ in points[key]] == history.curve(key)
            assert [step for step, _, _ in points[key]] == [1, 2, 3]
        assert {k: v for k, v in run.data.metrics.items() if k in history.final} == history.final
        artifacts = {a.path for a in store.client.list_artifacts(run.info.run_id, "plots")}
        assert artifacts == {"plots/learning_curves.png"}
    listed = command("harness", "status")
    assert plan.stem in listed.stdout
    assert all(run.data.tags["run.id"] in listed.stdout for run in runs)


def test_help_and_config(command: Command, tmp_path: Path) -> None:
    assert "validation examples taken from the training set [5000]" in command(RUN, "--help").stdout
    shown = command(RUN, "--cfg", "job", "batch=64")
    assert "batch: 64\n" in shown.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [("-cd", "a", "-cd", "b"), ("--config-dir=a", "-cd", "b")])
def test_two_folders_of_own_files_are_refused(
    command: Command, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Else one of two files of the same name would win in silence."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    done = command(RUN, *options, "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --config-dir a --config-dir b: expected one folder; put your own files together "
        "in it\n"
    )


def test_shell_completion(command: Command) -> None:
    line = {"COMP_LINE": "harness-run batc", "COMP_POINT": "16"}
    done = command(RUN, "-sc", "query=bash", **line)
    assert "batch=" in done.stdout
    for shell in ("bash", "zsh", "fish"):
        done = command(RUN, "-sc", f"install={shell}")
        assert "complete" in done.stdout
        assert "harness-run" in done.stdout
        assert (done.returncode, done.stderr) == (0, "")
    for wrong in ("install=foo", "foo", "install"):
        done = command(RUN, "-sc", wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: -sc {wrong}: expected install=bash|zsh|fish\n"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("-cd own experiment=ti", ["experiment=tiny"]),
        ("--config-dir own experiment=tiny wid", ["width="]),
        ("--dry-run --config-dir=own -m sweep=mi", ["sweep=mine"]),
        ("optimizer=own_completed:Lion optimizer.", ["optimizer.beta1=", "optimizer.name="]),
        ("-cd own activation=own_inside:Swish activation.be", ["activation.beta="]),
        ("optimizer=own_completed:Lion optimizer.beta1=0.5 batc", ["batch="]),
        ("optimizer=nowhere:Lion batc", []),
        ("-cd nowhere batc", []),
        ("-cd ", ["other/", "own/"]),
        ("-m -cd ow", ["own/"]),
        ("--config-dir own/e", ["own/experiment/"]),
        ("--config-dir=ow", ["--config-dir=own/"]),
        ("-cd nowhere/", []),
        ("-cd", []),
        ("--ids ", []),
        ("-cd own --dry", []),
        ("lr=[ batc", []),
    ],
)
def test_shell_completion_of_what_is_the_user_s(
    command: Command, tmp_path: Path, line: str, offered: list[str]
) -> None:
    for name, content in (("experiment/tiny", "width: 5\n"), ("sweep/mine", "grids: [{lr: 1}]\n")):
        path = tmp_path / f"own/{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(content)
    (tmp_path / "other").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "own_completed.py").write_text(
        "from harness.nn.optimizers import SGD\n"
        "class Lion(SGD):\n"
        "    def __init__(self, parameters, *, beta1: float = 0.9):\n"
        "        super().__init__(parameters)\n"
    )
    (tmp_path / "own/own_inside.py").write_text(
        "from harness.nn.activations import ReLU\n"
        "class Swish(ReLU):\n"
        "    def __init__(self, *, beta: float = 1.0): pass\n"
    )
    line = f"harness-run {line}"
    done = command(RUN, "-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == offered


def test_a_sweep_over_the_weights_that_count(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """Both train the same; each is tested, saved, ranked and evaluated with its own weights."""
    own = small(idx_folder, "tracking=none", "epochs=40", "lr=3", "patience=3", "width=64")
    done = command(RUN, "-m", *own, "objective=val/loss:max", "weights=best,last")
    assert done.returncode == 0, done.stderr
    best, last = (Run(folder) for folder in run_folders(tmp_path / "outputs"))
    losses = best.history().curve(metrics.VAL_LOSS)
    assert last.history().curve(metrics.VAL_LOSS) == losses
    assert len(losses) == 1 + losses.index(max(losses)) + 3 < 40
    assert best.metrics[metrics.BEST_EPOCH] == len(losses) - 3
    assert best.metrics["best/val_loss"] == max(losses)
    assert last.metrics[metrics.BEST_EPOCH] == len(losses)
    assert last.metrics["best/val_loss"] == losses[-1]
    assert best.metrics["test/loss"] != last.metrics["test/loss"]
    newest = checkpoint.load(best.folder / "weights/last.safetensors")[0]
    arrays, about = checkpoint.load(last.weights)
    assert about["epoch"] == len(losses)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, newest[name])
    (marked,) = [line for line in done.stdout.splitlines() if line.strip().startswith("*")]
    assert best.id in marked
    for run in (best, last):
        evaluated = command("harness", "evaluate", run.id, "--json")
        assert evaluated.returncode == 0, evaluated.stderr
        scores = json.loads(evaluated.stdout)
        assert scores["loss"] == pytest.approx(run.metrics["test/loss"], rel=1e-4)
    assert best_of(tmp_path / "outputs", None) == best, "what `register` takes"
    assert best_of(tmp_path / "outputs", last.id) == last
    (page,) = (tmp_path / "outputs/reports").glob("*/index.html")
    assert '<th scope="col">judged epoch<' in page.read_text()
    refused = command(RUN, *own, "weights=first")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "weights=first: expected best, last" in refused.stderr


def test_a_sweep_goes_by_its_objective(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    """Early stopping and the best epoch by the loss, which rises again; a table each of two."""
    own = small(idx_folder, "tracking=none", "epochs=40", "lr=3", "patience=3", "width=64")
    done = command(RUN, "-m", *own, "objective=val/loss,val/loss:max", "seed=1,2")
    assert done.returncode == 0, done.stderr
    for history in histories(tmp_path):
        losses = history.curve(metrics.VAL_LOSS)
        choose = max if history.params["objective"].endswith(":max") else min
        best = 1 + losses.index(choose(losses))
        assert history.final[metrics.BEST_EPOCH] == best
        assert history.final["best/val_loss"] == losses[best - 1]
        assert len(losses) == min(40, best + 3)
        assert metrics.BEST_VAL_ERROR not in history.final
        weights = tmp_path / "outputs/runs" / history.run / "weights/best.safetensors"
        assert checkpoint.load(weights)[1]["epoch"] == best
    for objective in ("val/loss", "val/loss:max"):
        assert f"objective={objective}: mean ± sd over n seeds" in done.stdout
    assert done.stdout.count("test loss") == 2
    assert "(without 2 of 4 runs, which have other objectives)" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("objective=val/top2",), "objective=val/top2: expected one of val/loss, val/error, "),
        (("objective=val/loss", "dataset.num_val=0"), "objective=val/loss: there are no valid"),
    ],
)
def test_an_objective_that_is_not_recorded_is_refused(
    command: Command, tmp_path: Path, idx_folder: Path, overrides: tuple[str, ...], line: str
) -> None:
    done = command(RUN, *small(idx_folder, *overrides))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"error: {line}")
    assert not (tmp_path / "outputs").exists()
