"""Launchers: how the run folders of a command get their jobs. Each only starts `harness.job`.

basic             one after the other, each with its own progress bar
joblib            several at once on this machine
slurm             tasks of a Slurm array                     (harness/cluster.py)
submitit_local    the same on this machine, for trying it    (harness/cluster.py)
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

from harness.run import launcher_schema as engines
from harness.run import signals
from harness.run.launchers.job_process import JobProcess
from harness.run.launchers.prestart import Spares
from harness.run.launchers.scoreboard import Scoreboard
from harness.runfolder import config, environment, journal
from harness.runfolder import folder as runs

POLL_S = 0.1
Ended = Callable[[Path], None]
# None: go on; "end": end the job; "leave": the command ends, and with it the jobs that cannot live
# without it.
Verdict = Callable[[], Literal["end", "leave"] | None]


class QueueError(RuntimeError):
    """The queue does not take a job; the message says why."""


class Launcher(Protocol):
    """What a command needs of a launcher."""

    slots: int
    """How many jobs a search keeps going at once."""

    def run(self, folders: Sequence[Path], ended: Ended) -> None:
        """Train all these folders, calling `ended` with each one when it is over.

        Raises `KeyboardInterrupt` when a signal ended it before.
        """

    def attend(self, folder: Path, verdict: Verdict) -> None:
        """Train one folder quietly, to its end or to the verdict. Any thread may call it."""


class Basic:
    """One job after the other; while one trains, the next one is prepared."""

    slots = 1

    def __init__(self, spares: Spares) -> None:
        self._spares = spares

    def run(self, folders: Sequence[Path], ended: Ended) -> None:
        """See `Launcher`; what is to be done about an ended job is done while the next trains."""
        previous: list[Path] = []
        for number, folder in enumerate(folders, 1):
            with JobProcess(folder, spare=self._spares.take()) as job:
                if number < len(folders):
                    self._spares.start()
                for path in previous:
                    ended(path)
                job.wait()
            previous = [folder]
        for path in previous:
            ended(path)

    def attend(self, folder: Path, verdict: Verdict) -> None:
        """See `Launcher`."""
        _attend(folder, verdict, environment.cores(), self._spares)


class Joblib:
    """Several jobs at once: joblib hands the folders to threads, each minds one job's process.

    Threads and not joblib's own processes, because a process pool is broken as a whole when one of
    its workers is killed; here that costs one job. Jobs times BLAS threads stay within the cores.
    """

    def __init__(self, n_jobs: int | None, threads: int, spares: Spares) -> None:
        from joblib import effective_n_jobs

        cores = environment.cores()
        most = max(1, cores // threads)
        wanted = most if n_jobs is None else effective_n_jobs(n_jobs)
        self.slots = min(wanted, most)
        self.cores = max(1, cores // self.slots)
        self._spares = spares
        if wanted > most and n_jobs != -1:
            print(
                f"hydra.launcher.n_jobs={n_jobs}: {most} at once, for {cores} core(s) and "
                f"{threads} thread(s) each",
                flush=True,
            )

    def run(self, folders: Sequence[Path], ended: Ended) -> None:
        """See `Launcher`."""
        from joblib import Parallel, delayed

        def one(folder: Path) -> Path:
            if not stop.is_set():
                self.attend(folder, lambda: "leave" if stop.is_set() else None)
            return folder

        with signals_set() as stop, Scoreboard(folders) as board:
            parallel = Parallel(
                self.slots, backend="threading", return_as="generator_unordered", batch_size=1
            )
            for folder in parallel(delayed(one)(folder) for folder in folders):
                board.ended(folder)
                if not stop.is_set():
                    ended(folder)
        if stop.is_set():
            raise KeyboardInterrupt

    def attend(self, folder: Path, verdict: Verdict) -> None:
        """See `Launcher`."""
        _attend(folder, verdict, self.cores, self._spares)


def _attend(folder: Path, verdict: Verdict, cores: int, spares: Spares) -> None:
    with JobProcess(folder, spare=spares.take(), quiet=True, cores=cores) as job:
        while job.wait(POLL_S) is None and verdict() is None:
            continue


def create(settings: engines.Launcher, outputs: Path, threads: int, spares: Spares) -> Launcher:
    """The launcher of jobs that insist on so many BLAS threads each."""
    match settings:
        case engines.BasicLauncher():
            return Basic(spares)
        case engines.JoblibLauncher():
            return Joblib(settings.n_jobs, threads, spares)
        case _:
            from harness.run.launchers.slurm import Cluster

            return Cluster(settings, outputs)


def check(settings: engines.Launcher, threads: int, *, is_sweep: bool) -> None:
    """Raise `ConfigError` when the launcher cannot do what is asked. threads: most of any job."""
    if isinstance(settings, engines.SlurmLauncher) and not is_sweep:
        raise config.ConfigError(
            "hydra/launcher=slurm: add -m; a sweep, even one of one job, is followed when its "
            "command is repeated"
        )
    if isinstance(settings, engines.SlurmLauncher | engines.SubmititLauncher):
        if settings.signal_delay_s >= 60 * settings.timeout_min:
            raise config.ConfigError(
                f"hydra.launcher.signal_delay_s={settings.signal_delay_s}: expected less than the "
                f"{60 * settings.timeout_min} seconds of hydra.launcher.timeout_min"
            )
        cores = settings.cpus_per_task
        if threads > cores:
            raise config.ConfigError(
                f"threads={threads}: hydra.launcher.cpus_per_task={cores} gives a job {cores} "
                "core(s); raise it, or leave threads=auto"
            )
    if isinstance(settings, engines.SlurmLauncher):
        from harness.run.launchers.queues import check_slurm

        check_slurm(settings)


def threads(folder: Path) -> int:
    """BLAS threads that a run insists on: those it began with, or a number in its config, or 1."""
    start = journal.history(folder).start
    if start is not None:
        return int(start["threads"])
    wanted = config.read_yaml(folder / runs.CONFIG).threads
    return 1 if wanted == "auto" else int(wanted)


@contextmanager
def signals_set() -> Iterator[threading.Event]:
    """Let the first signal set an event instead of raising in the middle of other people's code.

    The threads that mind the jobs see it and end them; then the command goes its usual way. The
    second signal ends it at once.
    """
    stop = threading.Event()

    def first(number: int, frame: FrameType | None) -> None:
        signals.leave_at_the_next()
        stop.set()

    before = [signal.signal(number, first) for number in signals.NUMBERS]
    try:
        yield stop
    finally:
        if signal.getsignal(signal.SIGINT) is first:
            for number, handler in zip(signals.NUMBERS, before, strict=True):
                signal.signal(number, handler)
