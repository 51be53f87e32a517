"""Execute a command's runs or search: train with the launcher while results are delivered."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.atomic import explained
from harness.run import freeze, summary
from harness.run.launcher_schema import Engines
from harness.run.launchers import choose
from harness.run.launchers.base import Launcher, LauncherError
from harness.run.launchers.prestart import Prestart
from harness.runfolder import folder
from harness.runfolder.checkpoints import newest_epoch
from harness.runfolder.hint import hint
from harness.runfolder.liveness import FolderLock
from harness.runfolder.optional import attempt, preload
from harness.runfolder.plan import Plan, sweeps_folder
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus
from harness.runfolder.target import Target
from harness.tracking.delivery import Report
from harness.tracking.process import DeliveryProcess
from harness.tracking.views import View

if TYPE_CHECKING:
    from harness.run.search.search import Search
    from harness.run.until import Deciding


def execute(
    runs: list[Run],
    plan: Plan | None,
    engines: Engines,
    prestart: Prestart,
    deciding: "Deciding | None" = None,
    *,
    resumes: bool = False,
) -> ExitStatus:
    """Train the runs that are not finished, deliver, summarize.

    plan: the sweep's; None for a single run. deciding: chooses more jobs of a sweep with
    `until=decided`. resumes: whether an earlier command made the single run.
    """
    outputs = runs[0].outputs
    first = next((run for run in runs if not run.is_finished), runs[0])
    target, params = first.target(), first.history().params
    deliveries = Deliveries(target, outputs, params["tracking.patience"])
    for run in [*runs, *([] if plan is None else plan.replaced_runs(outputs))]:
        deliveries.follow(run)
    if target is not None and not first.is_finished:
        _tell_of_changes(diff=params.get("tracking.diff", True))
    interrupted = False
    elsewhere: list[Run] = []
    names = {} if plan is None else plan.names
    try:
        for run in runs:
            name = names.get(run.id, run.name)
            if run.is_finished:
                print(f"{name}: finished before as {run.id}", flush=True)
            elif (resumes or run.history().start is not None) and not run.is_live():
                print(f"{name}: continues {run.id} {_whence(run)}", flush=True)
        if deciding is not None or not all(run.is_finished for run in runs):
            launcher = _launcher(runs, engines, prestart)
            plot, compare = target is not None, plan is not None
            elsewhere += train(runs, launcher, runs, plot=plot, compare=compare)
            while deciding is not None and (more := deciding.more(launcher.slots)):
                for run in more:
                    deliveries.follow(run)
                elsewhere += train(more, launcher, deciding.runs(), plot=plot, compare=compare)
    except KeyboardInterrupt:
        interrupted = True
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)
    if deciding is not None:
        runs, plan = deciding.runs(), deciding.plan
    # The report is an artifact of the best run: it must be in that run's journal before the
    # delivery closes, or it is not uploaded.
    report_line = ""
    if plan is not None and not interrupted:
        with one_at_a_time(outputs):
            for run in elsewhere if target is not None else ():
                plot_run(run)  # if the command that trained it did not
            report_line = _compare(plan, outputs)
    delivered = deliveries.close(plan)
    status = summary.summarize(runs, plan, delivered, target, interrupted=interrupted)
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
    deliveries = Deliveries(target, search.outputs, tracking.patience)
    if target is not None:
        _tell_of_changes(diff=tracking.diff)
    launcher = choose.create(
        engines.launcher, search.outputs, search.base.required_threads, prestart
    )
    try:
        trials = Trials(search, launcher, deliveries.follow)
    except study.failures() as error:  # its plan or its record of trials is damaged
        print(f"error: {explained(error).splitlines()[0]}", file=sys.stderr)
        deliveries.close()
        return ExitStatus.BAD_INPUT
    interrupted = failed = is_lost = False
    try:
        trials.run()
    except KeyboardInterrupt:
        interrupted = True
    # A `ValueError` means that something changed meanwhile, such as the user's own code.
    except (LauncherError, OSError, ValueError, *study.failures()) as error:  # type: ignore[misc]  # a tuple
        line = explained(error).splitlines()[0]
        print(f"error: {line}; repeat the command to continue", file=sys.stderr)
        failed, is_lost = True, isinstance(error, study.failures())
    runs = trials.plan.runs(search.outputs)
    elsewhere: list[Run] = []
    report_line = ""
    if not interrupted:
        if not is_lost:  # otherwise the record of trials cannot be read either
            elsewhere = attempt("trials elsewhere", trials.trained_elsewhere, elsewhere)
        with one_at_a_time(search.outputs):
            if target is not None:
                for run in runs:
                    plot_run(run)
            report_line = _compare(trials.plan, search.outputs)
    delivered = deliveries.close(trials.plan)
    status = summary.summarize(
        runs, trials.plan, delivered, target, interrupted=interrupted, elsewhere=elsewhere
    )
    valueless: list[str] = []
    if not is_lost:
        valueless = attempt("trials without a value", trials.without_value, valueless)
    for why in valueless:
        print(why, file=sys.stderr)
        failed = True
    if report_line:
        print(report_line)
        is_ranked = not valueless and sum(run.is_finished for run in runs) > 1
        if is_ranked and len(search.seeds) < 2:
            command = hint("confirm", search.id, outputs=search.outputs)
            print(f"to rule out luck:          {command}")
    if not is_lost and (line := attempt("trials without a run", trials.without_run, "")):
        print(line)
    return ExitStatus.FAILED if failed and status is ExitStatus.DONE else status


class Deliveries:
    """The delivery processes of a command, one for each store of its runs.

    A run that a sweep reuses goes to the store that got it before. target: the store of the
    command, whose process starts at once; None for `tracking=none`. patience: in seconds.
    """

    def __init__(self, target: Target | None, outputs: Path, patience: float) -> None:
        self._outputs, self._patience = outputs, patience
        self._processes: dict[Target, DeliveryProcess] = {}
        if target is not None:
            self._process(target)

    def follow(self, run: Run) -> None:
        """Start to deliver this run, if it has a store."""
        target = run.target()
        if target is not None:
            self._process(target).follow(run)

    def close(self, plan: Plan | None = None) -> Report:
        """Wait until everything is delivered or given up; returns one report for all stores.

        plan: the command's sweep; its view is saved in each store.
        """
        view = None
        if plan is not None:
            view = attempt("view of the sweep", partial(View.of, plan, self._outputs), None)
        whole = Report()
        for process in self._processes.values():
            report = process.close(view)
            whole.views += report.views
            whole.experiments |= report.experiments
            whole.undelivered |= report.undelivered
            whole.refused |= report.refused
            whole.deleted |= report.deleted
        return whole

    def _process(self, target: Target) -> DeliveryProcess:
        if target not in self._processes:
            process = DeliveryProcess(target, self._outputs, self._patience)
            self._processes[target] = process
        return self._processes[target]


def _whence(run: Run) -> str:
    """Where the training of an interrupted run continues, in words."""
    epoch, epochs = newest_epoch(run), run.history().params["epochs"]
    return f"after epoch {epoch} of {epochs}" if epoch else "from its start"


def _tell_of_changes(*, diff: bool) -> None:
    """Print a line if the source has uncommitted changes, which are stored with each run."""
    commit = freeze.source()
    if diff and commit is not None and commit.dirty:
        print("the source has uncommitted changes, which are stored with each run; "
              "tracking.diff=false leaves them out", flush=True)  # fmt: skip


def _launcher(runs: list[Run], engines: Engines, prestart: Prestart) -> Launcher:
    threads = max(run.required_threads for run in runs)
    return choose.create(engines.launcher, runs[0].outputs, threads, prestart)


@contextmanager
def one_at_a_time(outputs: Path) -> Iterator[None]:
    """Hold the lock for plots and reports, so that equal commands make them only once."""
    lock = FolderLock(sweeps_folder(outputs) / ".report.lock")
    with suppress(OSError):  # the folder was removed or is not writable
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def train(
    runs: list[Run], launcher: Launcher, sweep: list[Run], *, plot: bool, compare: bool
) -> list[Run]:
    """Train the runs that are not finished; returns those that other commands trained meanwhile.

    sweep: all runs of the command, which the progress display counts. plot: draw the plots of each
    run that ends. compare: a report follows, so preload its imports.
    """
    left = [run for run in runs if not run.is_finished]
    if not left:
        return []
    if plot or compare:
        preload("harness.analysis.compare" if compare else "harness.analysis.run_plots")
    trained: set[Run] = set()

    def on_end(run: Run) -> None:
        trained.add(run)
        if plot:
            plot_run(run)

    waiting = set(left)
    launcher.run(left, on_end, [run for run in sweep if run not in waiting])
    return [run for run in left if run not in trained]


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
