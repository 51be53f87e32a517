"""Print the end of a command: table, links, failures; choose its exit status."""

import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from harness.job.predictions import DETERMINED
from harness.run.fitted_table import show
from harness.run.run_table import LISTED, sweep_tables
from harness.runfolder.hint import DEFAULT, continuing, hint
from harness.runfolder.history import History
from harness.runfolder.plan import Plan
from harness.runfolder.run import LEARNING_CURVES, PREDICTIONS, Run
from harness.runfolder.status import ExitStatus, RunStatus
from harness.runfolder.target import Target
from harness.tracking.delivery import Report
from harness.tracking.views import sweep_link, view_link

UI = "http://127.0.0.1:5000"
MOST_NAMES = 3


def summarize(
    runs: Sequence[Run],
    plan: Plan | None,
    report: Report,
    target: Target | None,
    *,
    interrupted: bool,
    elsewhere: Collection[Run] = (),
) -> ExitStatus:
    """Print everything; returns the exit status. plan: None for a single run.

    elsewhere: the runs of a search that other commands are still training.
    """
    histories = [run.history() for run in runs]
    tables = sweep_tables(runs, histories, plan)
    show(*tables)
    names = {} if plan is None else plan.names
    if plan is not None and plan.verdict:
        print(plan.verdict)
    ours = [each for each in zip(runs, histories, strict=True) if each[0] not in elsewhere]
    _print_failures(ours, names, interrupted=interrupted)
    if elsewhere:
        print(f"{len(elsewhere)} run(s) are still being trained by other commands")
    _print_unchecked(histories)
    outputs = runs[0].outputs if runs else DEFAULT
    if plan is not None and len(runs) > sum(table.row_count for table in tables):
        limit = ["--limit", str(len(runs))] if len(runs) > LISTED else []
        print(f"each run:                  {hint('status', plan.id, *limit, outputs=outputs)}")
    if target is not None:
        _print_delivery(plan, report, target, outputs)
    if plan is None and not interrupted:
        _print_what_next(runs[0], histories[0])
    if not interrupted and any(_is_stopped(*each) for each in ours):
        print(f"to continue:               {_again(histories, plan, outputs)}")
    if interrupted:
        _print_how_to_continue(histories, plan, outputs)
        return ExitStatus.INTERRUPTED
    if any(h.status is not RunStatus.FINISHED and not h.is_pruned for _, h in ours):
        return ExitStatus.FAILED
    if report.undelivered or report.refused:
        return ExitStatus.UNDELIVERED
    return ExitStatus.DONE


def _print_failures(
    runs: Sequence[tuple[Run, History]], names: Mapping[str, str], *, interrupted: bool
) -> None:
    bad = {RunStatus.FAILED, RunStatus.DAMAGED}
    if not interrupted:
        bad |= {RunStatus.KILLED, RunStatus.RUNNING}
    for run, history in runs:
        if history.status in bad and not history.is_pruned:
            other = "another process is training it"
            why = other if run.is_live() else "its end record could not be written"
            why = history.error or why
            status = history.status.lower()
            name = names.get(run.id, history.name)
            print(f"{status}: {name} ({run.id}): {why}", file=sys.stderr)
            if run.journal.is_file():
                print(f"        more in {run.folder}", file=sys.stderr)


def _print_unchecked(histories: Sequence[History]) -> None:
    """Print which test metrics of custom trainers could not be checked against predictions."""
    unchecked: dict[tuple[str, str], int] = {}
    for history in histories:
        trainer = str(history.params["trainer.name"])
        if ":" in trainer and history.final and PREDICTIONS not in history.artifacts:
            for key in history.final:
                if key.removeprefix("test/") in DETERMINED and key.startswith("test/"):
                    unchecked[trainer, key] = unchecked.get((trainer, key), 0) + 1
    for (trainer, key), count in unchecked.items():
        print(
            f"note: nothing could check {key} of {count} run(s): trainer={trainer} did not call "
            "run.predictions",
            file=sys.stderr,
        )


def _print_delivery(plan: Plan | None, report: Report, target: Target, outputs: Path) -> None:
    address = UI if target.database is not None else str(target).rstrip("/")
    if report.experiments:
        where: dict[str, str] = {}  # runs of earlier commands stay in their experiment
        if len(report.experiments) > 1:
            where = {number: f"   in {name}" for name, number in report.experiments.items()}
        if target.database is None:
            print(f"compare in the MLflow UI:  {address}")
        else:
            ui = hint("ui", outputs=outputs)
            print(f"compare in the MLflow UI:  {ui}   then open {address}")
        for experiment_id in report.experiments.values():
            if plan is not None:
                link_to = view_link if experiment_id in report.views else sweep_link
                link = link_to(address, experiment_id, plan.id)
                print(f"this sweep's charts:       {link}{where.get(experiment_id, '')}")
        if plan is not None and (others := _other_names(plan, outputs)):
            print(f"names there:               {others}")
    for run, count in report.refused.items():
        print(f"{run}: the store refused {count} record(s), see its refused.jsonl", file=sys.stderr)
    for run, how in report.deleted.items():
        print(f"{run}: {how}", file=sys.stderr)
    for run, why in report.undelivered.items():
        print(f"not delivered yet: {run}: {why}", file=sys.stderr)
    if report.undelivered:
        print(f"`{hint('sync', outputs=outputs)}` delivers the rest", file=sys.stderr)


def _other_names(plan: Plan, outputs: Path) -> str:
    """The jobs whose runs have another name in the store, given by an earlier command."""
    runs = [run for run in plan.readable_runs(outputs) if run.name != run.create["name"]]
    words = [f"{run.name} is {run.create['name']} ({run.id})" for run in runs[:MOST_NAMES]]
    more = [f"{len(runs) - MOST_NAMES} more"] if len(runs) > MOST_NAMES else []
    return ", ".join([*words, *more])


def _print_what_next(run: Run, history: History) -> None:
    """Print where a single run's plot and folder are, and a command to type next."""
    if LEARNING_CURVES in history.artifacts:
        print(f"learning curves:           {run.folder / LEARNING_CURVES}")
    print(f"folder:                    {run.folder}")
    if history.status is RunStatus.FINISHED:
        is_built_in = ":" not in str(history.params["trainer.name"])
        words = ["evaluate", run.id] if is_built_in else ["status"]
        print(f"next:                      {hint(*words, outputs=run.outputs)}")


def _print_how_to_continue(histories: Sequence[History], plan: Plan | None, outputs: Path) -> None:
    names = {} if plan is None else plan.names
    for history in histories:
        if history.status is RunStatus.CREATED:
            print(f"not started: {names.get(history.run, history.name)}", file=sys.stderr)
    again = _again(histories, plan, outputs)
    print(f"interrupted; `{again}` continues from here", file=sys.stderr)


def _is_stopped(run: Run, history: History) -> bool:
    """Whether a run was stopped from outside and can be continued."""
    return history.status is RunStatus.KILLED and not history.is_pruned and not run.is_live()


def _again(histories: Sequence[History], plan: Plan | None, outputs: Path) -> str:
    """The command that continues a sweep, or a single run."""
    if plan is None:
        return continuing(histories[0].run, outputs)
    return shlex.join(["python", "-m", "harness.run", *plan.overrides])
