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

from harness.job import forkserver
from harness.run import compose, overrides
from harness.run.launcher_schema import Engines, JoblibLauncher
from harness.run.launchers.local import Parallel
from harness.run.launchers.prestart import Prestart
from harness.runfolder import environment
from harness.runfolder.config import ConfigError
from harness.runfolder.history import History
from harness.runfolder.run import Run
from tests.conftest import Command, run_folders

RUN = "harness.run"
LINUX = pytest.mark.skipif(not forkserver.AVAILABLE, reason="jobs are forked on Linux only")
JOBLIB = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "tracking=none")


def small(folder: Path, *more: str) -> tuple[str, ...]:
    own = ("dataset=idx", f"dataset.dir={folder}", "dataset.num_val=40", "batch=20", "width=8")
    return (*own, *more)


def engines_of(*texts: str) -> Engines:
    return compose.compose_engines(overrides.parse(list(texts)).engines)


def histories(place: Path) -> list[History]:
    return [Run(folder).history() for folder in run_folders(place / "outputs")]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["hydra/launcher=joblb"], "expected basic, joblib, slurm; did you mean"),
        (["hydra/sweeper=optun"], "did you mean 'optuna'?"),
        (["hydra/launcher=joblib", "hydra.launcher.n_job=4"], "did you mean 'hydra.launcher.n_jo"),
        (["hydra.launcher.n_jobs=4"], "hydra/launcher=basic has no such key; hydra/launcher=jobl"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "n_jobs=0: expected greater than"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=1,2"], "hydra.launcher.n_jobs=1,2: Am"),
        (["hydra/launcher=slurm", "hydra.launcher.mem_gb=-1"], "mem_gb=-1: expected greater than"),
        (["hydra/sweeper=optuna", "hydra.sweeper.sampler=tpa"], "expected tpe, random or qmc; did"),
    ],
)
def test_bad_engine_settings_are_one_line(texts: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        engines_of(*texts, "batch=1")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("hydra/launcher=slurm",), "hydra/launcher=slurm: add -m; a sweep, even one of one job"),
        (
            ("-m", "hydra/launcher=slurm", "hydra.launcher.timeout_min=1",
             "hydra.launcher.signal_delay_s=60"),
            "hydra.launcher.signal_delay_s=60: expected less than the 60 seconds of",
        ),
        (
            ("-m", "hydra/launcher=slurm", "threads=3"),
            "threads=3: hydra.launcher.cpus_per_task=1 gives a job 1 core(s); raise it, or leave",
        ),
    ],
)  # fmt: skip
def test_what_a_launcher_cannot_do_is_one_line(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    done = command(RUN, *arguments, "tracking=none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert expected in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_engine_settings_are_no_part_of_a_run() -> None:
    texts = ["batch=16", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4", "fresh=true"]
    line = overrides.parse(texts)
    assert [each.input_line for each in line.settings] == ["batch=16"]
    assert (line.typed, line.fresh, line.resume) == (texts[:3], True, None)
    engines = compose.compose_engines(line.engines)
    assert isinstance(engines.launcher, JoblibLauncher)
    assert engines.launcher.n_jobs == 4
    assert engines.sweeper.name == "basic"


@pytest.mark.parametrize("n_jobs", [None, -1, 1, 2, 3, 4, 50])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_jobs_times_threads_stay_within_the_cores(
    monkeypatch: pytest.MonkeyPatch, n_jobs: int | None, threads: int
) -> None:
    for cores in (1, 2, 8):
        monkeypatch.setenv("HARNESS_CORES", str(cores))
        launcher = Parallel(n_jobs, threads, Prestart())
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
    for folder in run_folders(tmp_path / "outputs"):
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


@LINUX
@pytest.mark.fault
def test_the_end_of_the_fork_server_costs_no_job(tmp_path: Path, idx_folder: Path) -> None:
    process = started(tmp_path, *JOBLIB, *small(idx_folder, "epochs=400", "seed=1,2,3,4"))
    jobs = jobs_of(process, 2)
    servers = {job.parent() for job in jobs}
    assert len(servers) == 1
    for server in servers:
        assert server is not None
        server.kill()
    stdout, stderr = process.communicate(timeout=600)
    assert (process.returncode, stderr) == (0, "")
    assert "4/4 done" in stdout
    assert [told.status for told in histories(tmp_path)] == ["FINISHED"] * 4


@LINUX
@pytest.mark.fault
def test_the_end_of_a_job_and_its_fork_server_is_seen(tmp_path: Path, idx_folder: Path) -> None:
    process = started(tmp_path, *JOBLIB, *small(idx_folder, "epochs=400", "seed=1,2,3"))
    job = jobs_of(process, 2)[0]
    server = job.parent()
    assert server is not None
    server.kill()
    job.kill()
    process.communicate(timeout=600)
    assert process.returncode == 1
    statuses = [told.status for told in histories(tmp_path)]
    assert sorted(statuses) == ["FINISHED", "FINISHED", "KILLED"]


@LINUX
def test_a_fork_server_that_dies_as_it_forks_holds_nothing_up(
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
    path = os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = small(idx_folder, "epochs=2", "seed=1,2")
    done = command(RUN, *JOBLIB, *own, PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [told.status for told in histories(tmp_path)] == ["FINISHED"] * 2


@pytest.mark.parametrize("launcher", [("tracking=none",), JOBLIB[1:]])
def test_where_processes_cannot_be_forked_each_job_is_started(
    command: Command, tmp_path: Path, idx_folder: Path, launcher: tuple[str, ...]
) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "from harness.job import forkserver\nforkserver.AVAILABLE = False\n"
        "def refuse(*_):\n    raise SystemExit('forked')\nforkserver.serve = refuse\n"
    )
    own = small(idx_folder, "epochs=2", "seed=1,2,3")
    path = os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = command(RUN, "-m", *launcher, *own, PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [told.status for told in histories(tmp_path)] == ["FINISHED"] * 3


@pytest.mark.skipif(environment.cores() < 2, reason="needs two cores")
def test_a_sweep_without_validation_claims_no_validation_error(
    command: Command, idx_folder: Path
) -> None:
    own = [text for text in small(idx_folder, "epochs=2", "seed=1,2") if "num_val" not in text]
    done = command(RUN, *JOBLIB, *own, "dataset.num_val=0")
    assert done.returncode == 0, done.stderr
    assert "2/2 done" in done.stdout
    assert "100.00%" not in done.stdout
    assert ", best " not in done.stdout


@pytest.mark.parametrize("launcher", [("tracking=none",), JOBLIB[1:]])
def test_a_job_that_dies_before_it_begins_is_named(
    command: Command, tmp_path: Path, idx_folder: Path, launcher: tuple[str, ...]
) -> None:
    """A Numba that ends the process; then none, and the same command goes on."""
    broken = tmp_path / "broken/numba"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("import os\nos._exit(7)\n")
    arguments = ("-m", *launcher, *small(idx_folder, "epochs=2", "seed=1,2", "backend=numpy"))
    done = command(RUN, *arguments, PYTHONPATH=str(broken.parent))
    assert done.returncode == 1
    for told in histories(tmp_path):
        assert (told.status, told.start) == ("FAILED", None)
        why = "its process ended with exit status 7 and no end record"
        assert f"failed: {told.create['name']} ({told.run}): {why}" in done.stderr
    assert command(RUN, *arguments).returncode == 0
    assert [told.status for told in histories(tmp_path)] == ["FINISHED"] * 2


def test_a_numba_that_cannot_be_imported_is_no_matter_where_it_is_not_needed(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    broken = tmp_path / "broken/numba"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('Numba needs NumPy 2.3 or less')\n")
    own = small(idx_folder, "epochs=2", "tracking=none")
    done = command(RUN, *own, "backend=numpy", PYTHONPATH=str(broken.parent))
    assert done.returncode == 0, done.stderr
    done = command(RUN, *own, "backend=numba", PYTHONPATH=str(broken.parent))
    assert done.returncode == 1
    assert "Numba needs NumPy 2.3 or less" in done.stderr


@pytest.mark.fault
@pytest.mark.parametrize("search", [(), ("hydra/sweeper=optuna", "lr=interval(0.1,0.5)")])
def test_the_second_ctrl_c_ends_the_command_at_once(
    tmp_path: Path, idx_folder: Path, search: tuple[str, ...]
) -> None:
    """Stopped jobs cannot end in peace, for which the command would give them 20 s."""
    seeds = () if search else ("seed=1,2,3",)
    own = small(idx_folder, "epochs=4000", *seeds)
    process = started(tmp_path, *JOBLIB, *own, *search)
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
    assert not alive, "they end with the command"


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
    assert f"`python -m harness.run {shlex.join(arguments)}` continues from here" in stderr
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
