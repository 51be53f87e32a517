"""Execute a command's runs or search: train through the launcher, and deliver meanwhile."""

import sys
import threading
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from harness.run import summary
from harness.run.launcher_schema import Engines
from harness.run.launchers import choose
from harness.run.launchers.base import LauncherError
from harness.run.launchers.prestart import Prestart
from harness.runfolder import folder
from harness.runfolder.optional import attempt
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus
from harness.runfolder.target import Target
from harness.tracking.delivery import Report
from harness.tracking.process import DeliveryProcess

if TYPE_CHECKING:
    from harness.run.search.search import Search


def execute(runs: list[Run], plan: Plan | None, engines: Engines, prestart: Prestart) -> ExitStatus:
    """Train the runs that are not finished, deliver, summarize. plan: of a sweep, else None."""
    outputs = runs[0].outputs
    patience = runs[0].history().params["tracking.patience"]
    delivery = start_delivery(runs[0].target(), outputs, patience)
    if delivery is not None:
        for run in runs:
            delivery.follow(run)
    interrupted = False
    try:
        train(runs, engines, prestart, plot=delivery is not None, compare=plan is not None)
    except KeyboardInterrupt:
        interrupted = True
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)
    # The report is an artifact of the best run: it must be noted in its journal before the delivery
    # closes, or it is not uploaded.
    report_line = "" if interrupted or plan is None else _compare(plan, outputs)
    delivered = Report() if delivery is None else delivery.close()
    status = summary.summarize(runs, plan, delivered, runs[0].target(), interrupted=interrupted)
    if report_line:
        print(report_line)
    return status


def execute_search(search: "Search", engines: Engines, prestart: Prestart) -> ExitStatus:
    """Run a search until it has its total of trials, deliver, summarize."""
    from harness.run.search import study
    from harness.run.search.trials import Trials

    folder.close_dead(search.outputs)
    tracking = search.base.tracking
    target = Target.of(tracking.name, tracking.uri, search.outputs)
    delivery = start_delivery(target, search.outputs, tracking.patience)
    launcher = choose.create(
        engines.launcher, search.outputs, search.base.required_threads, prestart
    )
    try:
        trials = Trials(search, launcher, ignore if delivery is None else delivery.follow)
    except ValueError as error:  # its plan or its record of trials is damaged
        print(f"error: {error}", file=sys.stderr)
        if delivery is not None:
            delivery.close()
        return ExitStatus.BAD_INPUT
    interrupted = failed = False
    try:
        trials.run()
    except KeyboardInterrupt:
        interrupted = True
    except (LauncherError, OSError, *study.failures()) as error:  # type: ignore[misc]  # a tuple
        line = str(error).splitlines()[0]
        print(f"error: {line}; repeat the command to continue", file=sys.stderr)
        failed = True
    runs = trials.plan.runs(search.outputs)
    if delivery is not None and not interrupted:
        for run in runs:
            plot_run(run)
        attempt("plots of the search", partial(study.draw, search, trials.study), None)
    delivered = Report() if delivery is None else delivery.close()
    status = summary.summarize(runs, trials.plan, delivered, target, interrupted=interrupted)
    return ExitStatus.FAILED if failed and status is ExitStatus.DONE else status


def start_delivery(target: Target | None, outputs: Path, patience: float) -> DeliveryProcess | None:
    """The delivery process to a store; None for `tracking=none`. patience: in seconds."""
    return None if target is None else DeliveryProcess(target, outputs, patience)


def train(
    runs: list[Run], engines: Engines, prestart: Prestart, *, plot: bool, compare: bool
) -> None:
    """Train the runs that are not finished through the launcher.

    plot: plot each finished run. compare: a report follows, so preload its imports.
    """
    left = []
    for run in runs:
        if run.is_finished:
            print(f"{run.history().name}: finished before as {run.id}", flush=True)
        else:
            left.append(run)
    if not left:
        return
    threads = max(run.required_threads for run in left)
    launcher = choose.create(engines.launcher, runs[0].outputs, threads, prestart)
    if plot or compare:  # importing Matplotlib takes as long as a few epochs: overlap it
        module = "harness.analysis.compare" if compare else "harness.analysis.run_plots"
        threading.Thread(target=partial(_preload, module), daemon=True).start()
    launcher.run(left, plot_run if plot else ignore)


def _preload(module: str) -> None:
    with suppress(Exception):  # who needs it reports the error
        import_module(module)


def ignore(run: Run) -> None:
    """Do nothing: the callback where no plots are drawn."""


def plot_run(run: Run) -> None:
    """Draw a run's plots; a failure is a warning and does not affect the sweep."""

    def draw() -> None:
        from harness.analysis import run_plots

        run_plots.draw(run)

    attempt("plots", draw, None)


def _compare(plan: Plan, outputs: Path) -> str:
    def report() -> str:
        from harness.analysis import compare

        return compare.after_sweep(plan, outputs)

    return attempt("report", report, "")
