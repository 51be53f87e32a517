"""Launchers for this machine: one job after the other, and several at the same time."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from harness.run.launchers.base import Decision, OnEnd
from harness.run.launchers.job_process import JobProcess
from harness.run.launchers.prestart import Prestart
from harness.run.launchers.scoreboard import Scoreboard
from harness.run.launchers.shared import Shared, settle
from harness.run.signals import setting_event
from harness.runfolder.run import Run
from harness.training.threads import cores

POLL_S = 0.1


class Basic:
    """One job after the other, each with its own progress bar, while the next one starts up.

    With several jobs, each prints its failure at once; that of a single job is printed at the end.
    """

    slots = 1

    def __init__(self, prestart: Prestart) -> None:
        self._prestart = prestart

    def run(self, runs: Sequence[Run], on_end: OnEnd, before: Sequence[Run] = ()) -> None:
        """See `Launcher`; `on_end` is called while the next job trains."""
        shared = Shared(runs)
        ended: list[Run] = []  # `on_end` must still be called for these

        def pause(seconds: float) -> None:
            while ended:
                on_end(ended.pop())
            time.sleep(seconds)

        for number in range(1, len(runs) + 1):
            with shared.next(pause) as (run, is_ours):
                if run is None or not is_ours:
                    continue
                with JobProcess(run, self._prestart.take(), alone=len(runs) == 1) as job:
                    if number < len(runs):
                        self._prestart.start()
                    while ended:
                        on_end(ended.pop())
                    job.wait()
                settle(run)
                ended.append(run)
        while ended:
            on_end(ended.pop())

    def attend(self, run: Run, decide: Decision, pause: int | None = None) -> None:
        """See `Launcher`."""
        _attend(run, decide, cores(), self._prestart, pause)


class Parallel:
    """Several jobs at the same time; one thread waits for each job's process.

    Jobs times BLAS threads never exceed the cores. This uses threads, because a process pool breaks
    when one of its workers is killed; here that costs one job.
    """

    def __init__(self, n_jobs: int | None, threads: int, prestart: Prestart) -> None:
        """n_jobs: most jobs at once; None or -1: as many as the cores allow. threads: per job."""
        allotted = cores()
        most = max(1, allotted // threads)
        self.slots = most if n_jobs in (None, -1) else min(n_jobs, most)
        self.cores = max(1, allotted // self.slots)
        self._prestart = prestart
        if n_jobs is not None and n_jobs > most:
            print(
                f"hydra.launcher.n_jobs={n_jobs}: {most} at once, for {allotted} core(s) and "
                f"{threads} thread(s) each",
                flush=True,
            )

    def run(self, runs: Sequence[Run], on_end: OnEnd, before: Sequence[Run] = ()) -> None:
        """See `Launcher`."""
        shared = Shared(runs)
        with setting_event() as stop, Scoreboard(runs, before=before) as board:

            def train() -> tuple[Run | None, bool]:
                with shared.next(stop.wait) as (run, is_ours):
                    if run is not None and is_ours and not stop.is_set():
                        self.attend(run, lambda: "leave" if stop.is_set() else None)
                        if not stop.is_set():
                            settle(run)
                return run, is_ours

            with ThreadPoolExecutor(self.slots) as pool:
                try:
                    for future in as_completed([pool.submit(train) for _ in runs]):
                        run, is_ours = future.result()
                        if run is not None:
                            board.ended(run)
                        if run is not None and is_ours and not stop.is_set():
                            on_end(run)
                except BaseException:
                    stop.set()  # leaving the pool waits for its threads
                    raise
        if stop.is_set():
            raise KeyboardInterrupt

    def attend(self, run: Run, decide: Decision, pause: int | None = None) -> None:
        """See `Launcher`."""
        _attend(run, decide, self.cores, self._prestart, pause)


def _attend(run: Run, decide: Decision, cores: int, prestart: Prestart, pause: int | None) -> None:
    while run.is_live():  # the job of a killed command is still ending
        if decide() is not None:
            return
        time.sleep(POLL_S)
    with JobProcess(run, prestart.take(), quiet=True, cores=cores, pause=pause) as job:
        while job.wait(POLL_S) is None and decide() is None:
            continue
