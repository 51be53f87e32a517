"""The launchers slurm and submitit_local: submitit puts the jobs into a queue.

A job of Slurm outlives the command that submitted it. Which job of Slurm has a run is written into
the run folder before it is submitted (`queued.json`), so that a repeated command follows it instead
of starting the run twice. What stands under `outputs/submitit` (scripts, logs, pickles of a
folder's name) is submitit's own and may be deleted when no job is queued.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from harness.run import launcher_schema as engines
from harness.run.launchers.local import Ended, Verdict, signals_set
from harness.run.launchers.queues import LocalQueue, SlurmQueue
from harness.run.launchers.scoreboard import Scoreboard
from harness.runfolder import environment
from harness.runfolder import folder as runs

POLL_S = 0.5


class Queue(Protocol):
    """Where jobs wait and run. All methods may be called from any thread."""

    survives: bool
    """Whether jobs go on without the command."""

    def submit(self, folders: Sequence[Path]) -> None:
        """Queue a job for each folder."""

    def state(self, folder: Path) -> str | None:
        """None while the folder's job waits or runs; else how it ended, NONE if there is none."""

    def cancel(self, folder: Path) -> None:
        """End the folder's job; that takes a while."""


class Cluster:
    """A launcher that submits jobs and follows their journals in the shared folder."""

    def __init__(
        self, settings: engines.SlurmLauncher | engines.SubmititLauncher, outputs: Path
    ) -> None:
        self._queue: Queue
        place = outputs.resolve() / "submitit"
        if isinstance(settings, engines.SlurmLauncher):
            self._queue = SlurmQueue(settings, place)
            self.slots = settings.array_parallelism
        else:
            self._queue = LocalQueue(settings, place)
            self.slots = max(1, environment.cores() // settings.cpus_per_task)

    def run(self, folders: Sequence[Path], ended: Ended) -> None:
        """See `Launcher`: submit what is not queued already, then follow everything."""
        queue = self._queue
        active = [folder for folder in folders if queue.state(folder) is None]
        waiting = [folder for folder in folders if folder not in active]
        if active:
            print(f"{len(active)} job(s) are in the queue already: following them", flush=True)
        with signals_set() as stop, Scoreboard(folders) as board:
            while (waiting or active) and not stop.is_set():
                # A real queue takes everything at once; this machine only what its cores can do.
                room = len(waiting) if queue.survives else max(0, self.slots - len(active))
                now, waiting = waiting[:room], waiting[room:]
                if now:
                    queue.submit(now)
                    active += now
                for folder in [each for each in active if queue.state(each) is not None]:
                    active.remove(folder)
                    self._close(folder)
                    board.ended(folder)
                    ended(folder)
                stop.wait(POLL_S)
        if stop.is_set():
            self._leave(active)
            raise KeyboardInterrupt

    def attend(self, folder: Path, verdict: Verdict) -> None:
        """See `Launcher`."""
        if self._queue.state(folder) is not None:
            self._queue.submit([folder])
        while self._queue.state(folder) is None:
            told = verdict()
            if told == "end" or (told == "leave" and not self._queue.survives):
                self._cancel(folder)
            elif told == "leave":
                return
            time.sleep(POLL_S)
        self._close(folder)

    def _leave(self, active: list[Path]) -> None:
        if self._queue.survives:
            print(f"{len(active)} job(s) go on in the queue; repeat the command to follow them")
            return
        for folder in active:
            self._cancel(folder)

    def _cancel(self, folder: Path) -> None:
        self._queue.cancel(folder)
        while self._queue.state(folder) is None:
            time.sleep(POLL_S)
        self._close(folder)

    def _close(self, folder: Path) -> None:
        state = self._queue.state(folder)
        told = runs.close_abandoned(folder, "KILLED", f"its job in the queue ended as {state}")
        if told.status == "CREATED":
            print(f"{told.create['name']}: its job in the queue ended as {state} before it began")
