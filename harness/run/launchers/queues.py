"""Two queues of jobs behind submitit: a Slurm cluster, and this machine."""

import json
import os
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

import psutil

from harness.data.atomic import write_text
from harness.run import launcher_schema as engines
from harness.run.launchers.job_process import JobProcess
from harness.run.launchers.local import QueueError
from harness.runfolder import folder as runs
from harness.runfolder.config import ConfigError

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

QUEUED = "queued.json"
# Slurm's default MaxArraySize is 1001: a larger sweep becomes several arrays.
ARRAY = 1000
ASK_S = 2.0
OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT", "PREEMPTED", "REVOKED"),
}
NONE = "NONE"


def check_slurm(settings: engines.SlurmLauncher) -> None:
    """Ask Slurm whether it would take such a job; nothing is submitted. Raises `ConfigError`."""
    if not shutil.which("sbatch"):
        raise ConfigError(
            "hydra/launcher=slurm: there is no sbatch on this machine; run the command on a login "
            "node of the cluster, or try hydra/launcher=submitit_local"
        )
    wanted = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "time": settings.timeout_min,
        "mem": _memory(settings),
        "cpus-per-task": settings.cpus_per_task,
    }
    command = [f"--{key}={value}" for key, value in wanted.items() if value is not None]
    done = subprocess.run(
        ["sbatch", "--test-only", "--wrap=true", *command], capture_output=True, text=True
    )
    if done.returncode:
        raise ConfigError(f"hydra/launcher=slurm: Slurm says {_one_line(done.stderr)}")


def _memory(settings: engines.SlurmLauncher) -> str | None:
    return f"{int(settings.mem_gb * 1024)}M" if settings.mem_gb else None


def _one_line(text: str) -> str:
    return "; ".join(text.replace("sbatch: error: ", "").strip().splitlines())


@dataclass
class Task:
    """What a queue runs: the job of one folder. owner: the process whose end ends it, if any."""

    folder: Path
    cores: int
    owner: tuple[int, float] | None = None

    def __call__(self) -> None:
        """Train the folder unless that is done."""
        if runs.is_finished(self.folder):
            return
        # The warning before the time is up is for this process; the job, which inherits what is
        # blocked, must not die of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        self._job = JobProcess(self.folder, quiet=True, cores=self.cores)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        with self._job as job:
            while job.wait(0.5) is None and self._is_wanted():
                continue

    def checkpoint(self) -> "DelayedSubmission":
        """submitit's hook before it requeues: end the job in peace; it goes on from its files."""
        from submitit.helpers import DelayedSubmission

        self._job.__exit__(None, None, None)
        return DelayedSubmission(Task(self.folder, self.cores, self.owner))

    def _is_wanted(self) -> bool:
        return self.owner is None or _lives(self.owner)


class SlurmQueue:
    """A Slurm cluster, by submitit's arrays; its own word on them is `squeue`'s.

    A job is recognised by a random name and its number in the array, written into the run folder
    before it is submitted: whenever the command dies, none is forgotten and none submitted twice.
    """

    survives = True

    def __init__(self, settings: engines.SlurmLauncher, place: Path) -> None:
        self._settings = settings
        self._place = place
        self._lock = threading.Lock()
        self._queued: dict[Path, dict[str, str]] = {}
        self._states: dict[tuple[str, str], tuple[str, str]] | None = None
        self._asked = 0.0

    def submit(self, folders: Sequence[Path]) -> None:
        """Queue the folders as arrays of at most 1,000 tasks."""
        for begin in range(0, len(folders), ARRAY):
            self._submit(folders[begin : begin + ARRAY])

    def _submit(self, folders: Sequence[Path]) -> None:
        from submitit.core.utils import FailedJobError

        name = f"harness-{secrets.token_hex(4)}"
        cores = self._settings.cpus_per_task
        tasks = [Task(folder.resolve(), cores) for folder in folders]
        for number, folder in enumerate(folders):
            # A single job is no array: squeue shows it without a number.
            told = {"name": name, "task": str(number) if len(folders) > 1 else "N/A"}
            write_text(folder / QUEUED, json.dumps(told))
            self._queued[folder] = told
        with self._lock:
            try:
                self._executor(name).submit_array(tasks)
            except FailedJobError as error:
                raise QueueError(f"Slurm refused the jobs: {_one_line(str(error))}") from None
            self._states = None

    def _executor(self, name: str) -> Any:
        from submitit import SlurmExecutor

        settings = self._settings
        executor = SlurmExecutor(self._place, max_num_timeout=settings.max_num_timeout)
        wanted = {
            "job_name": name,
            "time": settings.timeout_min,
            "partition": settings.partition,
            "account": settings.account,
            "qos": settings.qos,
            "constraint": settings.constraint,
            "mem": _memory(settings),
            "cpus_per_task": settings.cpus_per_task,
            "array_parallelism": settings.array_parallelism,
            "signal_delay_s": settings.signal_delay_s,
            "setup": settings.setup,
            "stderr_to_stdout": True,
            "srun_args": [f"--cpus-per-task={settings.cpus_per_task}"],
            "additional_parameters": {"requeue": True},
        }
        executor.update_parameters(**{k: v for k, v in wanted.items() if v is not None})
        return executor

    def state(self, folder: Path) -> str | None:
        """See `Queue`; a scheduler that does not answer is asked again, and nothing concluded."""
        with self._lock:
            if folder not in self._queued:
                self._queued[folder] = _read(folder)
            told = self._queued[folder]
            if not told:
                return NONE
            if self._states is None or time.monotonic() - self._asked > ASK_S:
                now = _squeue()
                self._states = self._states if now is None else now
                self._asked = time.monotonic()
            if self._states is None:
                return None
            _, state = self._states.get((told["name"], told["task"]), ("", NONE))
        return state if state in OVER or state == NONE else None

    def cancel(self, folder: Path) -> None:
        """See `Queue`."""
        with self._lock:
            told = self._queued[folder]
            number, _ = (self._states or {}).get((told["name"], told["task"]), ("", ""))
        if number:
            subprocess.run(["scancel", number], check=False, capture_output=True)


def _squeue() -> dict[tuple[str, str], tuple[str, str]] | None:
    """This user's jobs: (name, number in the array) -> (id, state). None: no answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%j|%K|%i|%T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    found = {}
    for line in done.stdout.splitlines():
        name, task, number, state = line.split("|")
        found[name, task] = (number, state)
    return found


class LocalQueue:
    """This machine, by submitit's local executor. Its jobs end with the command."""

    survives = False

    def __init__(self, settings: engines.SubmititLauncher, place: Path) -> None:
        self._settings = settings
        self._place = place
        self._jobs: dict[Path, Any] = {}

    def submit(self, folders: Sequence[Path]) -> None:
        """Start the folders' jobs at once."""
        from submitit import LocalExecutor

        settings = self._settings
        executor = LocalExecutor(self._place, max_num_timeout=settings.max_num_timeout)
        executor.update_parameters(
            timeout_min=settings.timeout_min, signal_delay_s=settings.signal_delay_s
        )
        owner = (os.getpid(), psutil.Process().create_time())
        for folder in folders:
            task = Task(folder.resolve(), settings.cpus_per_task, owner)
            self._jobs[folder] = executor.submit(task)

    def state(self, folder: Path) -> str | None:
        """See `Queue`."""
        job = self._jobs.get(folder)
        if job is None:
            return NONE
        return None if not job.done() or runs.is_live(folder) else str(job.state)

    def cancel(self, folder: Path) -> None:
        """See `Queue`."""
        self._jobs[folder].cancel()


def _read(folder: Path) -> dict[str, str]:
    path = folder / QUEUED
    told: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    return told


def _lives(owner: tuple[int, float]) -> bool:
    number, created = owner
    try:
        return bool(psutil.Process(number).create_time() == created)
    except psutil.NoSuchProcess:
        return False
