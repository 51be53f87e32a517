"""Jobs at the same time: they share the cores out, and none of them costs another."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness import environment, launch
from harness.config import ConfigError
from harness.launchers import Joblib
from harness.spares import Spares
from harness.training import journal
from tests.conftest import Command

RUN = "harness.run"
JOBLIB = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "tracking=none")


def small(folder: Path, *more: str) -> tuple[str, ...]:
    own = ("dataset=idx", f"dataset.dir={folder}", "dataset.num_val=40", "batch=20", "width=8")
    return (*own, *more)


def histories(place: Path) -> list[journal.History]:
    return [journal.history(folder) for folder in journal.folders(place / "outputs/runs")]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["hydra/launcher=joblb"], "expected basic, joblib, slurm, submitit_local; did you mean"),
        (["hydra/sweeper=optun"], "did you mean 'optuna'?"),
        (["hydra/launcher=joblib", "hydra.launcher.n_job=4"], "did you mean 'hydra.launcher.n_jo"),
        (["hydra.launcher.n_jobs=4"], "hydra/launcher=basic has no such key; hydra/launcher=jobl"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "n_jobs=0: expected greater than"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=1,2"], "hydra.launcher.n_jobs=1,2: Am"),
        (["hydra/launcher=slurm", "hydra.launcher.mem_gb=-1"], "mem_gb=-1: expected greater than"),
        (["hydra/sweeper=optuna", "hydra.sweeper.sampler=tpa"], "expected tpe, random or qmc; did"),
    ],
)
def test_bad_engine_settings_are_one_line(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        launch.take_engines([*overrides, "batch=1"])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_engine_settings_are_no_part_of_a_run() -> None:
    rest, engines = launch.take_engines(
        ["batch=16", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4"]
    )
    assert rest == ["batch=16"]
    assert engines.launcher.n_jobs == 4
    assert engines.sweeper.name == "basic"


@pytest.mark.parametrize("n_jobs", [None, -1, 1, 2, 3, 4, 50])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_jobs_times_threads_stay_within_the_cores(
    monkeypatch: pytest.MonkeyPatch, n_jobs: int | None, threads: int
) -> None:
    for cores in (1, 2, 8):
        monkeypatch.setenv("HARNESS_CORES", str(cores))
        launcher = Joblib(n_jobs, threads, Spares())
        assert launcher.slots >= 1
        assert launcher.slots * launcher.cores <= cores
        assert launcher.slots * threads <= max(cores, threads)
        if n_jobs is None:
            assert launcher.slots == max(1, cores // threads), "no core is left idle"


@pytest.mark.skipif(environment.cores() < 2, reason="needs two cores")
def test_a_parallel_sweep(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    done = command(RUN, *JOBLIB, *small(idx_folder, "epochs=30", "seed=1,2,3,4", "lr=0.5"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "4/4 done" in done.stdout
    assert "epoch 1/" not in done.stdout, "jobs are quiet"
    told = histories(tmp_path)
    assert [each.status for each in told] == ["FINISHED"] * 4
    assert all(each.start and each.start["threads"] == 1 for each in told)
    spans = sorted((each.start["ms"], each.epochs[-1]["ms"]) for each in told if each.start)
    assert spans[1][0] < spans[0][1], "the second began before the first ended"
    for folder in journal.folders(tmp_path / "outputs/runs"):
        assert "epoch 30/30" in (folder / "job.log").read_text()
    again = command(RUN, *JOBLIB, *small(idx_folder, "epochs=30", "seed=1,2,3,4", "lr=0.5"))
    assert again.stdout.count("finished before") == 4


def started(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", RUN, *arguments],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def jobs_of(process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    """The command's jobs, once `count` of them have written an epoch."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        place = Path(psutil.Process(process.pid).cwd())
        training = [told for told in histories(place) if told.status == "RUNNING" and told.epochs]
        if len(training) >= count:
            return [psutil.Process(told.start["pid"]) for told in training if told.start]
        time.sleep(0.05)
    raise AssertionError(f"{count} jobs did not start")


@pytest.mark.fault
def test_sigkill_of_one_job_costs_only_that_job(tmp_path: Path, idx_folder: Path) -> None:
    arguments = (*JOBLIB, *small(idx_folder, "epochs=400", "seed=1,2,3,4"))
    process = started(tmp_path, *arguments)
    victim = jobs_of(process, 2)[0]
    victim.kill()
    stdout, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "1 killed" in stdout
    statuses = [told.status for told in histories(tmp_path)]
    assert sorted(statuses) == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]
    killed = next(told for told in histories(tmp_path) if told.status == "KILLED")
    cause = "its process was ended by signal 9, as the system does when memory runs out"
    assert killed.error == cause
    again = started(tmp_path, *arguments)
    again.communicate(timeout=600)
    assert again.returncode == 0
    told = histories(tmp_path)
    assert len(told) == 4
    for each in told:
        assert [record["epoch"] for record in each.epochs] == list(range(1, 401))


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_command_ends_its_jobs(
    tmp_path: Path, idx_folder: Path, number: int
) -> None:
    arguments = (*JOBLIB, *small(idx_folder, "epochs=4000", "seed=1,2,3"))
    process = started(tmp_path, *arguments)
    jobs = jobs_of(process, 2)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=300)
    _gone, alive = psutil.wait_procs(jobs, timeout=60)
    assert not alive
    assert [told.status for told in histories(tmp_path)] == ["KILLED", "KILLED", "CREATED"]
    if number == signal.SIGKILL:
        return
    assert process.returncode == 130
    assert f"`python -m harness.run {shlex.join(arguments)}` goes on from here" in stderr
    before = [len(told.epochs) for told in histories(tmp_path)]
    again = started(tmp_path, *arguments)
    jobs_of(again, 2)
    assert len(histories(tmp_path)) == 3, "the same runs go on"
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=300)
    after = [len(told.epochs) for told in histories(tmp_path)]
    assert all(now >= then for now, then in zip(after, before, strict=True))


@pytest.mark.fault
def test_a_terminal_shows_one_bar(tmp_path: Path, idx_folder: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, *JOBLIB, *small(idx_folder, "epochs=300", "seed=1,2,3")],
        cwd=tmp_path, stdout=follower, stderr=follower, env=os.environ | {"COLUMNS": "150"},
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    assert process.wait(60) == 0
    text = shown.decode()
    assert "2 running" in text
    assert "3/3 done" in text
    assert "epoch" not in text.split("best by")[0]
