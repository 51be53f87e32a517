"""Jobs at the same time: they share the cores, and a failure of one affects no other."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.job import forkserver
from harness.run.launchers.local import Parallel
from harness.run.launchers.prestart import Prestart
from harness.training.threads import cores
from tests.conftest import RUN, Command, histories, python_path, run_folders, small, start, wait_for

LINUX = pytest.mark.skipif(not forkserver.AVAILABLE, reason="jobs are forked on Linux only")
JOBLIB = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "tracking=none")


@pytest.mark.parametrize("n_jobs", [None, -1, 1, 2, 3, 4, 50])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_jobs_times_threads_stay_within_the_cores(
    monkeypatch: pytest.MonkeyPatch, n_jobs: int | None, threads: int
) -> None:
    for allotted in (1, 2, 8):
        monkeypatch.setenv("HARNESS_CORES", str(allotted))
        launcher = Parallel(n_jobs, threads, Prestart())
        assert launcher.slots >= 1
        assert launcher.slots * launcher.cores <= allotted
        assert launcher.slots * threads <= max(allotted, threads)
        if n_jobs is None:
            assert launcher.slots == max(1, allotted // threads), "no core is left idle"


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_a_parallel_sweep(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    done = command(RUN, *JOBLIB, *small(idx_folder, "epochs=30", "seed=1,2,3,4", "lr=0.5"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "4/4 done" in done.stdout
    assert "epoch 1/" not in done.stdout, "jobs are quiet"
    runs = histories(tmp_path)
    assert [run.status for run in runs] == ["FINISHED"] * 4
    assert all(run.start and run.start["threads"] == 1 for run in runs)
    spans = sorted((run.start["ms"], run.epochs[-1]["ms"]) for run in runs if run.start)
    assert spans[1][0] < spans[0][1], "the second began before the first ended"
    for folder in run_folders(tmp_path / "outputs"):
        assert "epoch 30/30" in (folder / "job.log").read_text()
    again = command(RUN, *JOBLIB, *small(idx_folder, "epochs=30", "seed=1,2,3,4", "lr=0.5"))
    assert again.stdout.count("finished before") == 4


def statuses(cwd: Path, *, in_order: bool = True) -> list[str]:
    """The statuses of the runs in `cwd`/outputs, oldest first or sorted."""
    listed = [run.status.value for run in histories(cwd)]
    return listed if in_order else sorted(listed)


def jobs_of(process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    """The command's jobs, once `count` of them have recorded an epoch."""
    cwd = Path(psutil.Process(process.pid).cwd())

    def training() -> list[psutil.Process]:
        runs = [run for run in histories(cwd) if run.status == "RUNNING" and run.epochs]
        jobs = [psutil.Process(run.start["pid"]) for run in runs if run.start]
        return jobs if len(jobs) >= count else []

    return wait_for(training)


@pytest.mark.fault
def test_sigkill_of_one_job_affects_no_other(tmp_path: Path, idx_folder: Path) -> None:
    arguments = (*JOBLIB, *small(idx_folder, "epochs=400", "seed=1,2,3,4"))
    process = start(tmp_path, *arguments)
    victim = jobs_of(process, 2)[0]
    victim.kill()
    stdout, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "1 killed" in stdout
    assert statuses(tmp_path, in_order=False) == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]
    killed = next(run for run in histories(tmp_path) if run.status == "KILLED")
    cause = "its process was ended by signal 9, as the system does when memory runs out"
    assert killed.error == cause
    again = start(tmp_path, *arguments)
    again.communicate(timeout=600)
    assert again.returncode == 0
    runs = histories(tmp_path)
    assert len(runs) == 4
    for run in runs:
        assert [record["epoch"] for record in run.epochs] == list(range(1, 401))


@LINUX
@pytest.mark.fault
def test_a_dead_fork_server_affects_no_job(tmp_path: Path, idx_folder: Path) -> None:
    process = start(tmp_path, *JOBLIB, *small(idx_folder, "epochs=400", "seed=1,2,3,4"))
    jobs = jobs_of(process, 2)
    servers = {job.parent() for job in jobs}
    assert len(servers) == 1
    for server in servers:
        assert server is not None
        server.kill()
    stdout, stderr = process.communicate(timeout=600)
    assert (process.returncode, stderr) == (0, "")
    assert "4/4 done" in stdout
    assert statuses(tmp_path) == ["FINISHED"] * 4


@LINUX
@pytest.mark.fault
def test_a_job_that_dies_with_its_fork_server_is_killed(tmp_path: Path, idx_folder: Path) -> None:
    process = start(tmp_path, *JOBLIB, *small(idx_folder, "epochs=400", "seed=1,2,3"))
    job = jobs_of(process, 2)[0]
    server = job.parent()
    assert server is not None
    server.kill()
    job.kill()
    process.communicate(timeout=600)
    assert process.returncode == 1
    assert statuses(tmp_path, in_order=False) == ["FINISHED", "FINISHED", "KILLED"]


@LINUX
def test_a_fork_server_that_dies_as_it_forks_is_replaced(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, sys\nfork = os.fork\n"
        "def fork_and_die():\n    pid = fork()\n"
        "    if pid:\n        os.kill(os.getpid(), 9)\n    return pid\n"
        "if '--forking' in sys.orig_argv:\n    os.fork = fork_and_die\n"
    )
    own = small(idx_folder, "epochs=2", "seed=1,2")
    done = command(RUN, *JOBLIB, *own, **python_path(hook))
    assert (done.returncode, done.stderr) == (0, "")
    assert statuses(tmp_path) == ["FINISHED"] * 2


@pytest.mark.parametrize("launcher", [("tracking=none",), JOBLIB[1:]])
def test_where_processes_cannot_be_forked_each_job_is_start(
    command: Command, tmp_path: Path, idx_folder: Path, launcher: tuple[str, ...]
) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "from harness.job import forkserver\nforkserver.AVAILABLE = False\n"
        "def refuse(*_):\n    raise SystemExit('forked')\nforkserver.serve = refuse\n"
    )
    own = small(idx_folder, "epochs=2", "seed=1,2,3")
    done = command(RUN, "-m", *launcher, *own, **python_path(hook))
    assert (done.returncode, done.stderr) == (0, "")
    assert statuses(tmp_path) == ["FINISHED"] * 3


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_a_sweep_without_validation_shows_no_validation_error(
    command: Command, idx_folder: Path
) -> None:
    own = [text for text in small(idx_folder, "epochs=2", "seed=1,2") if "num_val" not in text]
    done = command(RUN, *JOBLIB, *own, "dataset.num_val=0")
    assert done.returncode == 0, done.stderr
    assert "2/2 done" in done.stdout
    assert "100.00%" not in done.stdout
    assert ", best " not in done.stdout


@pytest.mark.parametrize("launcher", [("tracking=none",), JOBLIB[1:]])
def test_a_job_that_dies_before_its_first_record_is_failed(
    command: Command, tmp_path: Path, idx_folder: Path, launcher: tuple[str, ...]
) -> None:
    """With a Numba that ends the process; without it, the same command trains the jobs."""
    broken = tmp_path / "broken/numba"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("import os\nos._exit(7)\n")
    arguments = ("-m", *launcher, *small(idx_folder, "epochs=2", "seed=1,2", "backend=numpy"))
    done = command(RUN, *arguments, **python_path(broken.parent))
    assert done.returncode == 1
    for run in histories(tmp_path):
        assert (run.status, run.start) == ("FAILED", None)
        why = "its process ended with exit status 7 and no end record"
        assert f"failed: {run.name} ({run.run}): {why}" in done.stderr
    assert command(RUN, *arguments).returncode == 0
    assert statuses(tmp_path) == ["FINISHED"] * 2


def test_a_broken_numba_stops_only_the_runs_that_need_it(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    broken = tmp_path / "broken/numba"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('Numba needs NumPy 2.3 or less')\n")
    own = small(idx_folder, "epochs=2", "tracking=none")
    done = command(RUN, *own, "backend=numpy", **python_path(broken.parent))
    assert done.returncode == 0, done.stderr
    done = command(RUN, *own, "backend=numba", **python_path(broken.parent))
    assert done.returncode == 1
    assert "Numba needs NumPy 2.3 or less" in done.stderr


@pytest.mark.fault
@pytest.mark.parametrize("search", [(), ("hydra/sweeper=optuna", "lr=interval(0.1,0.5)")])
def test_the_second_ctrl_c_ends_the_command_at_once(
    tmp_path: Path, idx_folder: Path, search: tuple[str, ...]
) -> None:
    """Suspended jobs cannot stop cleanly, for which the command would wait 20 s."""
    seeds = () if search else ("seed=1,2,3",)
    own = small(idx_folder, "epochs=4000", *seeds)
    process = start(tmp_path, *JOBLIB, *own, *search)
    jobs = jobs_of(process, 2)
    for job in jobs:
        job.suspend()
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "interrupted again: stopped at once" in stdout
    for job in jobs:
        job.resume()
    _gone, alive = psutil.wait_procs(jobs, timeout=60)
    assert not alive, "they end when the command ends"


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_command_ends_its_jobs(
    tmp_path: Path, idx_folder: Path, number: int
) -> None:
    arguments = (*JOBLIB, *small(idx_folder, "epochs=4000", "seed=1,2,3"))
    process = start(tmp_path, *arguments)
    jobs = jobs_of(process, 2)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=300)
    _gone, alive = psutil.wait_procs(jobs, timeout=60)
    assert not alive
    assert statuses(tmp_path) == ["KILLED", "KILLED", "CREATED"]
    if number == signal.SIGKILL:
        return
    assert process.returncode == 130
    assert f"`python -m harness.run {shlex.join(arguments)}` continues from here" in stderr
    before = [len(run.epochs) for run in histories(tmp_path)]
    again = start(tmp_path, *arguments)
    jobs_of(again, 2)
    assert len(histories(tmp_path)) == 3, "the same runs are continued"
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=300)
    after = [len(run.epochs) for run in histories(tmp_path)]
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
