"""A queue of Slurm jobs: submitted through submitit, their states read from `squeue`."""

import json
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.data.atomic import write_text
from harness.run.launcher_schema import SlurmLauncher
from harness.run.launchers.base import LauncherError
from harness.runfolder.run import Run

QUEUED = "queued.json"
ARRAY = 1000  # Slurm's default MaxArraySize is 1001: a larger sweep becomes several arrays
SQUEUE_S = 2.0  # between two calls of squeue
OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT", "PREEMPTED", "REVOKED"),
}
NONE = "NONE"  # Slurm has no such job
States = dict[tuple[str, str], tuple[str, str]]
MakeTask = Callable[[Path, int | None], object]


def resources(settings: SlurmLauncher) -> dict[str, Any]:
    """The resources of a job by sbatch option; those that the cluster decides are left out."""
    options = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "mem": f"{int(settings.mem_gb * 1024)}M" if settings.mem_gb else None,
        "cpus_per_task": settings.cpus_per_task,
    }
    return {key: value for key, value in options.items() if value is not None}


def one_line(text: str) -> str:
    """What sbatch prints, as one line."""
    return "; ".join(text.replace("sbatch: error: ", "").strip().splitlines())


class Queue:
    """Submits Slurm job arrays through submitit; reads their state from `squeue`. Thread-safe.

    A job is recognized by a random name and its number in the array. They are in the run folder
    before it is submitted, so no job is lost or submitted twice, whenever the command dies.
    """

    def __init__(self, settings: SlurmLauncher, folder: Path, make_task: MakeTask) -> None:
        """folder: submitit's. make_task: makes what runs on a node, from a run folder and
        the epoch after which it ends."""
        self._settings = settings
        self._make_task = make_task
        self._folder = folder
        self._lock = threading.Lock()
        self._jobs: dict[Path, dict[str, str]] = {}
        self._states: States | None = None
        self._asked = 0.0

    def submit(self, runs: Sequence[Run], pause: int | None = None) -> None:
        """Queue the runs as arrays of at most 1,000 tasks. Raises `LauncherError`.

        pause: the epoch after which they end; None: the last one.

        Commands take turns; runs that another one has submitted meanwhile are left out.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / ".lock"):
            with self._lock:
                self._states = None
                self._jobs |= {run.folder: _read(run.folder) for run in runs}
            left = [run for run in runs if self.state(run) is not None]
            for start in range(0, len(left), ARRAY):
                self._submit(left[start : start + ARRAY], pause)

    def _submit(self, runs: Sequence[Run], pause: int | None) -> None:
        from submitit.core.utils import FailedJobError

        name = f"harness-{secrets.token_hex(4)}"
        tasks = [self._make_task(run.folder.resolve(), pause) for run in runs]
        for number, run in enumerate(runs):
            # A single job is not an array: squeue shows it without a number.
            job = {"name": name, "task": str(number) if len(runs) > 1 else "N/A"}
            write_text(run.folder / QUEUED, json.dumps(job))
            self._jobs[run.folder] = job
        with self._lock:
            try:
                self._executor(name).submit_array(tasks)
            except FailedJobError as error:
                raise LauncherError(f"Slurm refused the jobs: {one_line(str(error))}") from None
            self._states = None

    def _executor(self, name: str) -> Any:
        from submitit import SlurmExecutor

        settings = self._settings
        executor = SlurmExecutor(self._folder, max_num_timeout=settings.max_num_timeout)
        executor.update_parameters(
            **resources(settings),
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
        """How the run's job ended: None while it waits or runs, NONE if there is no job.

        If the scheduler does not answer, the last known state counts.
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

    def cancel(self, run: Run) -> bool:
        """Cancel the run's job. Returns whether Slurm accepted that; the job ends later.

        Returns False while the states are unknown, such as after another thread submitted a job.
        """
        with self._lock:
            job = self._jobs[run.folder]
            number, _ = (self._states or {}).get((job["name"], job["task"]), ("", ""))
        if not number:
            return False
        return subprocess.run(["scancel", number], capture_output=True).returncode == 0


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
