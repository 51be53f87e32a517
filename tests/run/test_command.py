"""The signature command as a user runs it: real processes, real files, a real MLflow store."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.nn import metrics
from harness.runfolder import checkpoint
from harness.runfolder.history import History
from harness.runfolder.run import Run
from tests.conftest import Command, command_in, run_folders

RUN = "harness.run"
SMALL = ("epochs=3", "batch=20", "lr=0.5", "width=8")


def small(folder: Path, *more: str) -> tuple[str, ...]:
    return ("dataset=idx", f"dataset.dir={folder}", "dataset.num_val=40", *SMALL, *more)


def histories(place: Path) -> list[History]:
    return [Run(folder).history() for folder in run_folders(place / "outputs")]


def test_smoke(command: Command, tmp_path: Path) -> None:
    done = command(RUN, "experiment=smoke", "tracking=none")
    assert (done.returncode, done.stderr) == (0, "")
    (told,) = histories(tmp_path)
    assert told.status == "FINISHED"
    assert told.final[metrics.TEST_ERROR] < 0.5
    assert f"{told.final[metrics.TEST_ERROR]:.2%}" in done.stdout
    assert "epoch 2/2" in done.stdout
    assert os.listdir(tmp_path) == ["outputs"]  # noqa: PTH208


def test_a_run_leaves_what_is_promised(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    assert command(RUN, *small(idx_folder, "tracking=none")).returncode == 0
    (folder,) = run_folders(tmp_path / "outputs")
    told = Run(folder).history()
    for path in told.artifacts:
        assert (folder / path).stat().st_size > 0
    assert {"weights/last.safetensors", "weights/best.safetensors", "config.yaml"} <= set(
        told.artifacts
    )
    with np.load(folder / "predictions/test.npz") as predictions:
        wrong = predictions["probabilities"].argmax(axis=1) != predictions["labels"]
    assert told.final[metrics.TEST_ERROR] == wrong.mean()
    arrays, description = checkpoint.load(folder / "weights/best.safetensors")
    assert arrays["layer1.weights"].shape == (30, 8)
    assert description["normalization"] == {"name": "minmax", "scale": 2 / 255, "shift": -1.0}
    assert description["epoch"] == told.final[metrics.BEST_EPOCH]
    assert [e["epoch"] for e in told.epochs] == [1, 2, 3]


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
     "dataset.num_val=60000", "batch=1,2", "tracking=sever", "tracking.uri=http://localhost:5000"],
)  # fmt: skip
def test_bad_input_exits_2_and_creates_nothing(
    command: Command, tmp_path: Path, override: str
) -> None:
    done = command(RUN, override)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_exits_2_before_any_run(command: Command, tmp_path: Path) -> None:
    from tests.conftest import write_idx_folder

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
    done = command(RUN, "-m", *small(idx_folder, "tracking=none"), "lr=0.5,3e38,0.4")
    assert done.returncode == 1
    assert [told.status for told in histories(tmp_path)] == ["FINISHED", "FAILED", "FINISHED"]
    failed = histories(tmp_path)[1]
    assert "failed: lr=3e+38" in done.stderr
    assert "lr=3e+38 is probably too high" in (failed.error or "")
    assert "traceback.txt" in failed.artifacts


def test_a_repeated_sweep_reuses_what_is_finished(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    first = command(RUN, "-m", *small(idx_folder, "tracking=none"), "seed=1,2")
    again = command(RUN, "-m", *small(idx_folder, "tracking=none"), "seed=1,2")
    larger = command(RUN, "-m", *small(idx_folder, "tracking=none"), "seed=1,2,3")
    assert [done.returncode for done in (first, again, larger)] == [0, 0, 0]
    assert "epoch" not in again.stdout.split("best by")[0]
    told = histories(tmp_path)
    assert len(told) == 3
    assert [len(t.tags["sweep"].split(",")) for t in told] == [2, 2, 1]
    assert len(list((tmp_path / "outputs/sweeps").iterdir())) == 2


def wait_for_epoch(place: Path) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for folder in run_folders(place / "outputs"):
            if Run(folder).history().epochs:
                return folder
        time.sleep(0.05)
    raise AssertionError("no epoch within a minute")


def started(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", RUN, *arguments],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_is_killed_and_130(tmp_path: Path, number: int) -> None:
    process = started(tmp_path, "-m", "tracking=none", "epochs=500", "seed=1,2")
    folder = wait_for_epoch(tmp_path)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert Run(folder).history().status == "KILLED"
    assert [told.status for told in histories(tmp_path)] == ["KILLED", "CREATED"]


@pytest.mark.parametrize(
    ("broken", "error"), [("command", "RuntimeError"), ("_prepare", "ValueError")]
)
def test_an_interruption_that_a_library_makes_an_error_of_is_130(broken: str, error: str) -> None:
    code = f"""
import signal, sys
from harness.run import command
from harness.run import __main__ as run

def broken(*arguments, **named):
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise {error}("of a library") from None

command.{broken} = broken
sys.argv = ["harness-run", "hydra/launcher=slurm"]  # which needs no prepared job
run.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.fault
def test_sigkill_of_the_command_ends_its_job_and_delivery(tmp_path: Path) -> None:
    process = started(tmp_path, "epochs=500")
    folder = wait_for_epoch(tmp_path)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 3  # the job, what forked it, and the delivery
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert Run(folder).history().status == "KILLED"


@pytest.mark.fault
def test_sigkill_of_a_job_costs_only_that_job(tmp_path: Path) -> None:
    process = started(tmp_path, "-m", "tracking=none", "epochs=500,1")
    start = Run(wait_for_epoch(tmp_path)).history().start
    assert start is not None
    psutil.Process(start["pid"]).kill()
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert [told.status for told in histories(tmp_path)] == ["KILLED", "FINISHED"]


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_table_equals_database_equals_journals(tmp_path: Path, idx_folder: Path) -> None:
    from harness.runfolder.target import Target
    from harness.tracking.store import Store

    command = command_in(tmp_path)
    done = command(RUN, "-m", *small(idx_folder), "batch=10,20,40")
    assert (done.returncode, done.stderr) == (0, "")
    (plan,) = (tmp_path / "outputs/sweeps").iterdir()
    store = Store(Target.local(tmp_path / "outputs"))
    runs = store.runs(store.experiment("idx"), f"tags.sweep LIKE '%{plan.stem}%'")
    assert f"searchFilter=tags.sweep%20LIKE%20%27%25{plan.stem}%25%27" in done.stdout
    assert len(runs) == 3
    rows = [line.split() for line in done.stdout.splitlines() if "FINISHED" in line]
    best = min(rows, key=lambda row: float(row[-6].rstrip("%")))
    assert [row[0] == "*" for row in rows].count(True) == 1
    assert best[0] == "*"
    for row in rows:
        told = Run(tmp_path / "outputs/runs" / row[-1]).history()
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
            assert [value for _, value, _ in points[key]] == told.curve(key)
            assert [step for step, _, _ in points[key]] == [1, 2, 3]
        assert {k: v for k, v in run.data.metrics.items() if k in told.final} == told.final
        artifacts = {a.path for a in store.client.list_artifacts(run.info.run_id, "plots")}
        assert artifacts == {"plots/learning_curves.png"}
    listed = command("harness", "status")
    assert plan.stem in listed.stdout
    assert all(run.data.tags["run.id"] in listed.stdout for run in runs)


def test_help_and_config(command: Command, tmp_path: Path) -> None:
    assert "validation images taken from the training set [5000]" in command(RUN, "--help").stdout
    shown = command(RUN, "--cfg", "job", "batch=64")
    assert "batch: 64\n" in shown.stdout
    assert list(tmp_path.iterdir()) == []


def test_shell_completion(command: Command) -> None:
    line = {"COMP_LINE": "harness-run batc", "COMP_POINT": "16"}
    done = command(RUN, "-sc", "query=bash", **line)
    assert "batch=" in done.stdout
    assert "complete" in command(RUN, "-sc", "install=bash").stdout


def test_json_export(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    done = command("harness", "export", "json", "out", "--dataset", "idx", "--dir", str(idx_folder))
    assert done.returncode == 0
    assert len(json.loads((tmp_path / "out/train.json").read_text())["labels"]) == 300
