"""The Slurm launcher: submits job arrays through submitit and follows them.

A Slurm job outlives the command that submitted it. Before a run is submitted, its job's name is
written into the run folder (`queued.json`), so that a repeated command follows the job instead of
starting the run twice. What is under `outputs/submitit` (scripts, logs, pickles of a folder's name)
belongs to submitit and may be deleted when no job is queued.
"""

import json
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.atomic import write_text
from harness.run.launcher_schema import SlurmLauncher
from harness.run.launchers import prestart
from harness.run.launchers.base import Decision, LauncherError, OnEnd
from harness.run.launchers.job_process import JobProcess
from harness.run.launchers.scoreboard import Scoreboard
from harness.run.signals import setting_event
from harness.runfolder.config import ConfigError
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

QUEUED = "queued.json"
ARRAY = 1000  # Slurm's default MaxArraySize is 1001: a larger sweep becomes several arrays
POLL_S = 0.5
SQUEUE_S = 2.0  # between two calls of squeue
OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT", "PREEMPTED", "REVOKED"),
}
NONE = "NONE"  # Slurm has no such job
States = dict[tuple[str, str], tuple[str, str]]


def check(settings: SlurmLauncher, threads: int) -> None:
    """Ask Slurm whether it would take such a job; submits nothing. Raises `ConfigError`."""
    if settings.signal_delay_s >= 60 * settings.timeout_min:
        raise ConfigError(
            f"hydra.launcher.signal_delay_s={settings.signal_delay_s}: expected less than the "
            f"{60 * settings.timeout_min} seconds of hydra.launcher.timeout_min"
        )
    cores = settings.cpus_per_task
    if threads > cores:
        raise ConfigError(
            f"threads={threads}: hydra.launcher.cpus_per_task={cores} gives a job {cores} "
            "core(s); raise it, or leave threads=auto"
        )
    if not shutil.which("sbatch"):
        raise ConfigError(
            "hydra/launcher=slurm: there is no sbatch on this machine; run the command on a login "
            "node of the cluster, or use hydra/launcher=joblib"
        )
    options = {**_resources(settings), "time": settings.timeout_min}
    command = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    done = subprocess.run(
        ["sbatch", "--test-only", "--wrap=true", *command], capture_output=True, text=True
    )
    if done.returncode:
        raise ConfigError(f"hydra/launcher=slurm: Slurm says {_one_line(done.stderr)}")


def _resources(settings: SlurmLauncher) -> dict[str, Any]:
    """What a job asks for, by sbatch's names; without what the cluster decides."""
    options = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "mem": f"{int(settings.mem_gb * 1024)}M" if settings.mem_gb else None,
        "cpus_per_task": settings.cpus_per_task,
    }
    return {key: value for key, value in options.items() if value is not None}


def _one_line(text: str) -> str:
    return "; ".join(text.replace("sbatch: error: ", "").strip().splitlines())


@dataclass
class Task:
    """What submitit runs on a node: the job of one run folder."""

    folder: Path
    cores: int

    def __call__(self) -> None:
        """Train the run unless it is finished."""
        run = Run(self.folder)
        if run.is_finished:
            return
        # Slurm's warning signal is for this process; the job inherits the mask and must not die.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        self._job = JobProcess(run, prestart.start_job(), quiet=True, cores=self.cores)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        with self._job as job:
            job.wait()

    def checkpoint(self) -> "DelayedSubmission":
        """Called by submitit before requeueing: stop the job cleanly; the next attempt resumes."""
        from submitit.helpers import DelayedSubmission

        self._job.end()
        return DelayedSubmission(Task(self.folder, self.cores))


class Slurm:
    """Submits jobs to a Slurm cluster and follows their journals in the shared folder."""

    def __init__(self, settings: SlurmLauncher, outputs: Path) -> None:
        self._queue = Queue(settings, outputs.resolve() / "submitit")
        self.slots = settings.array_parallelism

    def run(self, runs: Sequence[Run], on_end: OnEnd) -> None:
        """See `Launcher`: submit what is not queued already, then follow everything."""
        active = [run for run in runs if self._queue.state(run) is None]
        if active:
            print(f"{len(active)} job(s) are in the queue already: following them", flush=True)
        with setting_event() as stop, Scoreboard(runs) as board:
            self._queue.submit([run for run in runs if run not in active])
            active = list(runs)
            while active and not stop.is_set():
                for run in [each for each in active if self._queue.state(each) is not None]:
                    active.remove(run)
                    self._close(run)
                    board.ended(run)
                    on_end(run)
                stop.wait(POLL_S)
        if stop.is_set():
            print(f"{len(active)} job(s) stay in the queue; repeat the command to follow them")
            raise KeyboardInterrupt

    def attend(self, run: Run, decide: Decision) -> None:
        """See `Launcher`."""
        if self._queue.state(run) is not None:
            self._queue.submit([run])
        while self._queue.state(run) is None:
            match decide():
                case "end":
                    self._queue.cancel(run)
                    while self._queue.state(run) is None:
                        time.sleep(POLL_S)
                case "leave":
                    return
            time.sleep(POLL_S)
        self._close(run)

    def _close(self, run: Run) -> None:
        error = f"its job in the queue ended as {self._queue.state(run)}"
        history = run.close_abandoned(RunStatus.KILLED, error)
        if history.status is RunStatus.CREATED:
            print(f"{history.name}: {error} before it started")


class Queue:
    """Submits Slurm job arrays through submitit; reads their state from `squeue`. Thread-safe.

    A job is recognized by a random name and its number in the array, written into the run folder
    before it is submitted: whenever the command dies, no job is lost and none is submitted twice.
    """

    def __init__(self, settings: SlurmLauncher, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._lock = threading.Lock()
        self._jobs: dict[Path, dict[str, str]] = {}
        self._states: States | None = None
        self._asked = 0.0

    def submit(self, runs: Sequence[Run]) -> None:
        """Queue the runs as arrays of at most 1,000 tasks. Raises `LauncherError`."""
        for start in range(0, len(runs), ARRAY):
            self._submit(runs[start : start + ARRAY])

    def _submit(self, runs: Sequence[Run]) -> None:
        from submitit.core.utils import FailedJobError

        name = f"harness-{secrets.token_hex(4)}"
        tasks = [Task(run.folder.resolve(), self._settings.cpus_per_task) for run in runs]
        for number, run in enumerate(runs):
            # A single job is not an array: squeue shows it without a number.
            job = {"name": name, "task": str(number) if len(runs) > 1 else "N/A"}
            write_text(run.folder / QUEUED, json.dumps(job))
            self._jobs[run.folder] = job
        with self._lock:
            try:
                self._executor(name).submit_array(tasks)
            except FailedJobError as error:
                raise LauncherError(f"Slurm refused the jobs: {_one_line(str(error))}") from None
            self._states = None

    def _executor(self, name: str) -> Any:
        from submitit import SlurmExecutor

        settings = self._settings
        executor = SlurmExecutor(self._folder, max_num_timeout=settings.max_num_timeout)
        executor.update_parameters(
            **_resources(settings),
            job_name=name,
            time=settings.timeout_min,
            array_parallelism=settings.array_parallelism,
            signal_delay_s=settings.signal_delay_s,
            stderr_to_stdout=True,
            srun_args=[f"--cpus-per-task={settings.cpus_per_task}"],
            additional_parameters={"requeue": True},
            **({"setup": settings.setup} if settings.setup is not None else {}),
        )
        return executor

    def state(self, run: Run) -> str | None:
        """None while the run's job waits or runs; else how it ended, NONE if there is none.

        When the scheduler does not answer, the last known state counts.
        """
        with self._lock:
            if run.folder not in self._jobs:
                self._jobs[run.folder] = _read(run.folder)
            job = self._jobs[run.folder]
            if not job:
                return NONE
            if self._states is None or time.monotonic() - self._asked > SQUEUE_S:
                states = _squeue()
                self._states = self._states if states is None else states
                self._asked = time.monotonic()
            if self._states is None:
                return None
            _, state = self._states.get((job["name"], job["task"]), ("", NONE))
        return state if state in OVER or state == NONE else None

    def cancel(self, run: Run) -> None:
        """End the run's job; that takes a while."""
        with self._lock:
            job = self._jobs[run.folder]
            number, _ = (self._states or {}).get((job["name"], job["task"]), ("", ""))
        if number:
            subprocess.run(["scancel", number], check=False, capture_output=True)


def _squeue() -> States | None:
    """This user's jobs: (name, number in the array) -> (id, state). None: no answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%j|%K|%i|%T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    states = {}
    for line in done.stdout.splitlines():
        name, task, number, state = line.split("|")
        states[name, task] = (number, state)
    return states


def _read(folder: Path) -> dict[str, str]:
    path = folder / QUEUED
    job: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    return job
