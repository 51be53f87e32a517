"""The end of a command: table, links, failures, exit status."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from harness.job.predictions import DETERMINED
from harness.nn import metrics
from harness.run.fitted_table import FittedTable
from harness.runfolder import data_sets, streams
from harness.runfolder.history import History
from harness.runfolder.objective import DEFAULT as DEFAULT_OBJECTIVE
from harness.runfolder.objective import KEY, Objective, several
from harness.runfolder.optional import attempt
from harness.runfolder.plan import Plan
from harness.runfolder.run import LEARNING_CURVES, PREDICTIONS, Run
from harness.runfolder.status import ExitStatus, RunStatus
from harness.runfolder.target import Target
from harness.tracking.delivery import Report
from harness.tracking.views import sweep_link, view_link

UI = "http://127.0.0.1:5000"
DEFAULT = Path("outputs")  # of conf/config.yaml; commands look there by default
NOTHING = "-"
UNLIMITED = 1_000_000  # columns
MOST_NAMES = 3
LISTED = 30  # runs that `status` lists unless told otherwise
OTHER = " by other source"  # an accepted run


def summarize(
    runs: Sequence[Run],
    plan: Plan | None,
    report: Report,
    target: Target | None,
    *,
    interrupted: bool,
) -> ExitStatus:
    """Print everything; returns the exit status. plan: None for a single run."""
    histories = [run.history() for run in runs]
    tables = sweep_tables(runs, histories, plan)
    show(*tables)
    names = {} if plan is None else plan.names
    if plan is not None and plan.verdict:
        print(plan.verdict)
    _print_failures(runs, histories, names, interrupted=interrupted)
    _print_unchecked(histories)
    outputs = runs[0].outputs if runs else DEFAULT
    if plan is not None and len(runs) > sum(table.row_count for table in tables):
        limit = ["--limit", str(len(runs))] if len(runs) > LISTED else []
        print(f"each run:                  {command('status', plan.id, *limit, outputs=outputs)}")
    if target is not None:
        _print_delivery(plan, report, target, outputs)
    if plan is None and not interrupted:
        _print_what_next(runs[0], histories[0])
    if not interrupted and any(_is_stopped(*each) for each in zip(runs, histories, strict=True)):
        print(f"to continue:               {_again(histories, plan, outputs)}")
    if interrupted:
        _print_how_to_continue(histories, plan, outputs)
        return ExitStatus.INTERRUPTED
    if any(h.status is not RunStatus.FINISHED and not h.is_pruned for h in histories):
        return ExitStatus.FAILED
    if report.undelivered or report.refused:
        return ExitStatus.UNDELIVERED
    return ExitStatus.DONE


def objectives(histories: Sequence[History]) -> list[Objective]:
    """The different objectives of the runs, in order."""
    return several(Objective.of(history.params) for history in histories)


def kinds(histories: Sequence[History]) -> list[tuple[str, Objective]]:
    """The data set in words and the objective of each run: with both alike, runs are ranked."""
    names = data_sets.named([history.create["dataset"] for history in histories])
    return [
        (name, Objective.of(history.params)) for name, history in zip(names, histories, strict=True)
    ]


def best_row(histories: Sequence[History]) -> int | None:
    """The index of the finished run with the best value of their objective; the first of equals.

    Raises `ValueError` if they have several objectives or data sets.
    """
    names = dict.fromkeys(name for name, _ in kinds(histories))
    if len(names) > 1:
        raise ValueError(
            f"the runs are on the data sets {', '.join(names)}, which are not ranked together"
        )
    different = objectives(histories)
    if len(different) > 1:
        raise ValueError(
            f"the runs have the objectives {', '.join(map(str, different))}, which are not ranked "
            "together"
        )
    values = {
        index: history.final[objective.best_key]
        for objective in different
        for index, history in enumerate(histories)
        if history.status is RunStatus.FINISHED and objective.best_key in history.final
    }
    if not values:
        return None
    best = min(values.values(), key=different[0].order)
    return next(index for index, value in values.items() if different[0].are_equal(value, best))


def _title(histories: Sequence[History], best: int) -> str:
    """What the mark of the best row means, and how many are equal to it."""
    objective = Objective.of(histories[best].params)
    key = objective.best_key
    finished = [each.final for each in histories if each.status is RunStatus.FINISHED]
    values = [final[key] for final in finished if key in final]
    equal = sum(objective.are_equal(value, histories[best].final[key]) for value in values)
    others = f", the first of {equal} equal ones" if equal > 1 else ""
    return f"best by {objective.title} is marked *{others}"


def sweep_tables(
    runs: Sequence[Run], histories: Sequence[History], plan: Plan | None
) -> list[Table]:
    """A table for each data set and objective, whose runs are not ranked together.

    Its rows are the settings where some have several seeds, else the runs. Each of several tables
    says what it is of.
    """
    jobs = plan.jobs if plan is not None else ()
    found = kinds(histories)
    several_sets = len({name for name, _ in found}) > 1
    several_objectives = len({objective for _, objective in found}) > 1
    tables = []
    for kind in dict.fromkeys(found) or [None]:
        rows = [i for i, each in enumerate(found) if each == kind]
        part = None if plan is None else replace(plan, jobs=tuple(jobs[i] for i in rows))
        of_kind = [histories[i] for i in rows]
        table = _setting_table([runs[i] for i in rows], of_kind, part)
        table = sweep_table(of_kind, part) if table is None else table
        if kind is not None:
            on = [f"on {kind[0]}"] if several_sets else []
            on += [f"{KEY}={kind[1]}"] if several_objectives else []
            titles = [", ".join(on), str(table.title or "")]
            table.title = ": ".join(filter(None, titles)) or None
        tables.append(table)
    return tables


def _setting_table(
    runs: Sequence[Run], histories: Sequence[History], plan: Plan | None
) -> Table | None:
    """The table of the settings of a sweep; None where the rows are to be its runs."""
    seeds = {history.params.get("seed") for history in histories}
    is_finished = any(history.status is RunStatus.FINISHED for history in histories)
    if plan is None or not is_finished or (len(seeds) < 2 and not plan.costs):
        return None

    def table() -> Table | None:
        from harness.run.setting_table import setting_table

        return setting_table(runs, plan)

    return attempt("table of settings", table, None)


def sweep_table(histories: Sequence[History], plan: Plan | None) -> Table:
    """One row per run: swept values (or the name), figures, status, run id.

    The runs are of one data set and objective.
    """
    best = best_row(histories)
    objective = (objectives(histories) or [DEFAULT_OBJECTIVE])[0]
    title = None if best is None else _title(histories, best)
    table = FittedTable(title)
    swept = [job.swept for job in plan.jobs] if plan is not None else []
    others = {job.run for job in plan.jobs if job.other_source} if plan is not None else set()
    keys = list(swept[0]) if swept else []
    for key in ("", *(keys or ["run"])):
        table.add(key, folds=True)
    table.add(objective.short_title, right=True)
    for heading, drop in (("epoch", 2), (objective.test_title, 3), ("seconds", 1)):
        table.add(heading, right=True, drop=drop)
    table.add("status", folds=True, drop=4)
    table.add("run id")
    for index, history in enumerate(histories):
        table.add_row(
            "*" if index == best else "",
            *([swept[index][key] for key in keys] if keys else [history.name]),
            *figures(history),
            f"{_status(history)}{OTHER if history.run in others else ''}",
            history.run,
            style="bold" if index == best else None,
        )
    return table


def _status(history: History) -> str:
    return history.how_pruned.upper() or history.status


def figures(history: History) -> tuple[str, str, str, str]:
    """A run's objective and the epoch that it counts of, its test metric and seconds, as text."""
    final, objective = history.final, Objective.of(history.params)
    best, test = final.get(objective.best_key), final.get(objective.test_key)
    return (
        NOTHING if best is None else objective.format(best),
        NOTHING if best is None else f"{final[metrics.BEST_EPOCH]:.0f}",
        NOTHING if test is None else objective.format(test),
        f"{history.seconds:.1f}" if history.epochs else NOTHING,
    )


def show(*tables: Table) -> None:
    """Print to standard output; nothing is wrapped or left out when it is not a terminal."""
    console = streams.console()
    if not console.is_terminal:
        console = streams.console(width=UNLIMITED)
    for table in tables:
        console.print(table)


def _print_failures(
    runs: Sequence[Run],
    histories: Sequence[History],
    names: Mapping[str, str],
    *,
    interrupted: bool,
) -> None:
    bad = {RunStatus.FAILED, RunStatus.DAMAGED}
    if not interrupted:
        bad |= {RunStatus.KILLED, RunStatus.RUNNING}
    for run, history in zip(runs, histories, strict=True):
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
    """Say which test metrics of own trainers could not be compared with predictions."""
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
        where: dict[str, str] = {}  # runs of earlier commands stay in the experiment of those
        if len(report.experiments) > 1:
            where = {number: f"   in {name}" for name, number in report.experiments.items()}
        if target.database is None:
            print(f"compare in the MLflow UI:  {address}")
        else:
            ui = command("ui", outputs=outputs)
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
        print(f"`{command('sync', outputs=outputs)}` delivers the rest", file=sys.stderr)


def _other_names(plan: Plan, outputs: Path) -> str:
    """The jobs whose runs an earlier command made and the store has under another name."""
    runs = [run for run in plan.readable_runs(outputs) if run.name != run.create["name"]]
    words = [f"{run.name} is {run.create['name']} ({run.id})" for run in runs[:MOST_NAMES]]
    more = [f"{len(runs) - MOST_NAMES} more"] if len(runs) > MOST_NAMES else []
    return ", ".join([*words, *more])


def _print_what_next(run: Run, history: History) -> None:
    """Where a single run's picture and folder are, and a command that goes on from it."""
    if LEARNING_CURVES in history.artifacts:
        print(f"learning curves:           {run.folder / LEARNING_CURVES}")
    print(f"folder:                    {run.folder}")
    if history.status is RunStatus.FINISHED:
        is_built_in = ":" not in str(history.params["trainer.name"])
        words = ["evaluate", run.id] if is_built_in else ["status"]
        print(f"next:                      {command(*words, outputs=run.outputs)}")


def command(*words: str, outputs: Path) -> str:
    """A command for these outputs, as it is typed."""
    elsewhere = [] if outputs == DEFAULT else ["--outputs", str(outputs)]
    return shlex.join(["python", "-m", "harness", *words, *elsewhere])


def _print_how_to_continue(histories: Sequence[History], plan: Plan | None, outputs: Path) -> None:
    names = {} if plan is None else plan.names
    for history in histories:
        if history.status is RunStatus.CREATED:
            print(f"not started: {names.get(history.run, history.name)}", file=sys.stderr)
    again = _again(histories, plan, outputs)
    print(f"interrupted; `{again}` continues from here", file=sys.stderr)


def _is_stopped(run: Run, history: History) -> bool:
    """Whether a run was ended from outside, so that it can be continued as it is."""
    return history.status is RunStatus.KILLED and not history.is_pruned and not run.is_live()


def _again(histories: Sequence[History], plan: Plan | None, outputs: Path) -> str:
    """The command that continues a sweep, or a single run."""
    if plan is not None:
        words = plan.overrides
    else:
        elsewhere = () if outputs == DEFAULT else (f"outputs={outputs}",)
        words = (f"resume={histories[0].run}", *elsewhere)
    return shlex.join(["python", "-m", "harness.run", *words])
