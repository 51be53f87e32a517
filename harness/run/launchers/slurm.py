"""The Slurm launcher: follows the jobs that `slurm_queue.py` submits.

A Slurm job outlives the command that submitted it. Before a run is submitted, its job's name is
written into the run folder (`queued.json`), so a repeated command follows the job instead of
starting the run twice. The files under `outputs/submitit` (scripts, logs, pickles of a folder's
name) belong to submitit and can be deleted when no job is queued.
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.run.launcher_schema import SlurmLauncher
from harness.run.launchers import prestart
from harness.run.launchers.base import Decision, OnEnd
from harness.run.launchers.job_process import JobProcess
from harness.run.launchers.scoreboard import Scoreboard
from harness.run.launchers.slurm_queue import Queue, one_line, resources
from harness.run.signals import setting_event
from harness.runfolder.config import ConfigError
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

POLL_S = 0.5


def check(settings: SlurmLauncher, threads: int) -> None:
    """Ask Slurm whether it would accept such a job; submits nothing. Raises `ConfigError`."""
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
    options = {**resources(settings), "time": settings.timeout_min}
    command = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    done = subprocess.run(
        ["sbatch", "--test-only", "--wrap=true", *command], capture_output=True, text=True
    )
    if done.returncode:
        raise ConfigError(f"hydra/launcher=slurm: Slurm says {one_line(done.stderr)}")


@dataclass
class Task:
    """What submitit runs on a node: the job of one run folder."""

    folder: Path
    cores: int
    pause: int | None = None

    def __call__(self) -> None:
        """Train the run unless it is finished."""
        run = Run(self.folder)
        if run.is_finished:
            return
        # Slurm's warning signal is for this process. The job inherits the mask, so it survives.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        self._job = JobProcess(
            run, prestart.start_job(), quiet=True, cores=self.cores, pause=self.pause
        )
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        with self._job as job:
            # Not one long wait: `checkpoint` runs in a signal handler and also waits for the
            # process, which `Popen` cannot do inside an untimed wait.
            while job.wait(POLL_S) is None:
                continue

    def checkpoint(self) -> "DelayedSubmission":
        """Called by submitit before requeueing: stop the job cleanly; the next attempt resumes."""
        from submitit.helpers import DelayedSubmission

        self._job.end()
        return DelayedSubmission(Task(self.folder, self.cores, self.pause))


class Slurm:
    """Submits jobs to a Slurm cluster and follows their journals in the shared folder."""

    def __init__(self, settings: SlurmLauncher, outputs: Path) -> None:
        def make_task(folder: Path, pause: int | None) -> Task:
            return Task(folder, settings.cpus_per_task, pause)

        self._queue = Queue(settings, outputs.resolve() / "submitit", make_task)
        self.slots = settings.array_parallelism

    def run(self, runs: Sequence[Run], on_end: OnEnd, before: Sequence[Run] = ()) -> None:
        """See `Launcher`: submit the runs that are not queued, then follow all of them."""
        active = [run for run in runs if self._queue.state(run) is None]
        if active:
            print(f"{len(active)} job(s) are already in the queue; following them", flush=True)
        with setting_event() as stop, Scoreboard(runs, before=before) as board:
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
            print(f"{len(active)} job(s) remain in the queue; repeat the command to follow them")
            raise KeyboardInterrupt

    def attend(self, run: Run, decide: Decision, pause: int | None = None) -> None:
        """See `Launcher`."""
        if self._queue.state(run) is not None:
            self._queue.submit([run], pause)
        while self._queue.state(run) is None:
            match decide():
                case "end":
                    is_cancelled = False
                    while self._queue.state(run) is None:
                        is_cancelled = is_cancelled or self._queue.cancel(run)
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
