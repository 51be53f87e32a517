"""Carrying out a plan or a search: jobs started as the launcher does it, delivered meanwhile."""

import sys
import threading
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from harness.run.launcher_schema import Engines
from harness.run.launchers import local as launchers
from harness.run.launchers.local import QueueError
from harness.run.launchers.prestart import Spares
from harness.run.summary import DONE, FAILED, tell
from harness.runfolder import folder as runs
from harness.runfolder import journal
from harness.runfolder.plan import Plan
from harness.runfolder.schema import Config
from harness.tracking import process

if TYPE_CHECKING:
    from harness.run.search.search import Search
    from harness.tracking.process import DeliveryProcess


def carry_out(plan: Plan, config: Config, outputs: Path, engines: Engines, spares: Spares) -> int:
    """Train what the plan has left, deliver, report. Returns the exit status."""
    from harness.tracking.delivery import Report

    folders = [runs.folder_of(outputs) / job.run for job in plan.jobs]
    delivery = deliver(config, outputs)
    if delivery is not None:
        for folder in folders:
            delivery.follow(folder)
    interrupted = False
    try:
        train(folders, engines, outputs, spares, draw=delivery is not None, compare=bool(plan.id))
    except KeyboardInterrupt:
        interrupted = True
    except QueueError as error:
        print(f"error: {error}", file=sys.stderr)
    compared = "" if interrupted or not plan.id else _compare(plan, outputs)
    report = delivery.close() if delivery is not None else Report()
    status = tell(plan, folders, report, interrupted=interrupted)
    if compared:
        print(compared)
    return status


def carry_out_search(search: "Search", engines: Engines, spares: Spares) -> int:
    """Go on with a search to its total of trials, deliver, report. Returns the exit status."""
    from harness.run.search import study
    from harness.run.search.trials import Trials
    from harness.tracking.delivery import Report

    runs.close_dead(search.outputs)
    delivery = deliver(search.base, search.outputs)
    launcher = launchers.create(engines.launcher, search.outputs, threads(search.base), spares)
    follow = delivery.follow if delivery is not None else ignore
    trials = Trials(search, launcher, follow)
    interrupted = failed = False
    try:
        trials.run()
    except KeyboardInterrupt:
        interrupted = True
    except (QueueError, OSError, journal.JournalError) as error:
        print(f"error: {error}; repeat the command to go on", file=sys.stderr)
        failed = True
    folders = [runs.folder_of(search.outputs) / job.run for job in trials.plan.jobs]
    if delivery is not None and not interrupted:
        for folder in folders:
            draw_pictures(folder)
        study.draw(search, trials.study)
    report = delivery.close() if delivery is not None else Report()
    status = tell(trials.plan, folders, report, interrupted=interrupted)
    return FAILED if failed and status == DONE else status


def deliver(config: Config, outputs: Path) -> "DeliveryProcess | None":
    """The delivery process to the store that the configuration names, if it names one."""
    from harness.tracking.target import Target

    if config.tracking.name == "none":
        return None
    uri = config.tracking.uri if config.tracking.name == "server" else None
    target = Target(uri) if uri else Target.local(outputs)
    return process.DeliveryProcess(target, outputs, config.tracking.patience)


def train(
    folders: list[Path],
    engines: Engines,
    outputs: Path,
    spares: Spares,
    *,
    draw: bool,
    compare: bool,
) -> None:
    """Train the folders that are not finished, as the launcher does it; pictures meanwhile.

    draw: each run's pictures; compare: the runs will be, afterwards.
    """
    left = []
    for folder in folders:
        told = journal.history(folder)
        if told.status == "FINISHED":
            print(f"{told.create['name']}: finished before as {told.run}", flush=True)
        else:
            left.append(folder)
    if left:
        most = max(launchers.threads(folder) for folder in left)
        launcher = launchers.create(engines.launcher, outputs, most, spares)
        if draw or compare:  # what draws takes as long to import as a few epochs: meanwhile
            importing = partial(
                import_module,
                "harness.analysis.compare" if compare else "harness.analysis.run_plots",
            )
            threading.Thread(target=importing, daemon=True).start()
        launcher.run(left, draw_pictures if draw else ignore)


def threads(config: Config) -> int:
    """BLAS threads that a configuration insists on."""
    return 1 if config.threads == "auto" else config.threads


def ignore(folder: Path) -> None:
    """Nothing is to be done about this run."""


def draw_pictures(folder: Path) -> None:
    """Draw a run's pictures; that one cannot be drawn is said and costs nothing else."""
    from harness.analysis import run_plots as pictures

    try:
        pictures.draw(folder)
    except (OSError, ValueError) as error:
        print(f"{folder.name}: no picture: {error}", file=sys.stderr)


def _compare(plan: Plan, outputs: Path) -> str:
    from harness.analysis import compare

    return compare.after_sweep(plan, outputs)
