"""Tables of runs: one row per run or setting, and which row is the best."""

import math
from collections.abc import Sequence
from dataclasses import replace

from rich.table import Table

from harness.nn import metrics
from harness.run.fitted_table import FittedTable
from harness.run.grammar import short
from harness.runfolder import data_sets
from harness.runfolder.history import History
from harness.runfolder.objective import DEFAULT, KEY, Objective, several
from harness.runfolder.optional import attempt
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus

NOTHING = "-"
LISTED = 30  # runs that `status` lists by default
OTHER = " with other source"  # an accepted run


def objectives(histories: Sequence[History]) -> list[Objective]:
    """The different objectives of the runs, in order."""
    return several(Objective.of(history.params) for history in histories)


def kinds(histories: Sequence[History]) -> list[tuple[str, Objective]]:
    """The name of the data set and the objective of each run; equal pairs are ranked together."""
    names = data_sets.named([history.create["dataset"] for history in histories])
    return [
        (name, Objective.of(history.params)) for name, history in zip(names, histories, strict=True)
    ]


def best_row(histories: Sequence[History]) -> int | None:
    """The index of the best finished run, the first of equals; None if there is none.

    Raises `ValueError` if the runs have several objectives or data sets.
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
    """A table's title: what the mark of the best row means, and how many rows are equal to it."""
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
    """A table for each data set and objective, because only their runs are ranked together.

    Its rows are settings if some have several seeds, else runs. If there are several tables, their
    titles name the data sets or objectives.
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
    """The table of a sweep's settings; None if the rows should be its runs."""
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

    The runs must have one data set and objective. The runs of a search are ordered by value, those
    of a sweep by job.
    """
    best = best_row(histories)
    objective = (objectives(histories) or [DEFAULT])[0]
    title = None if best is None else _title(histories, best)
    table = FittedTable(title)
    swept = [job.swept for job in plan.jobs] if plan is not None else []
    others = {job.run for job in plan.jobs if job.other_source} if plan is not None else set()
    keys = list(swept[0]) if swept else []
    shown = {key: short([each[key] for each in swept]) for key in keys}
    for key in ("", *(keys or ["run"])):
        table.add(key, folds=True)
    table.add(objective.short_title, right=True)
    for heading, drop in (("epoch", 2), (objective.test_title, 3), ("seconds", 1)):
        table.add(heading, right=True, drop=drop)
    table.add("status", folds=True, drop=4)
    table.add("run id")
    order = list(range(len(histories)))
    if plan is not None and plan.is_search:
        order.sort(key=lambda index: (index != best, _place(histories[index], objective)))
    for index in order:
        history = histories[index]
        table.add_row(
            "*" if index == best else "",
            *([shown[key][swept[index][key]] for key in keys] if keys else [history.name]),
            *figures(history),
            f"{_status(history)}{OTHER if history.run in others else ''}",
            history.run,
            style="bold" if index == best else None,
        )
    return table


def _place(history: History, objective: Objective) -> tuple[bool, float]:
    """A key that sorts the best finished run first, and runs that are not finished last."""
    is_left = history.status is not RunStatus.FINISHED
    return is_left, math.inf if is_left else objective.order(history.final.get(objective.best_key))


def _status(history: History) -> str:
    return history.how_pruned.upper() or history.status


def figures(history: History) -> tuple[str, str, str, str]:
    """A run's objective, the epoch that it is from, its test metric and seconds, as text."""
    final, objective = history.final, Objective.of(history.params)
    best, test = final.get(objective.best_key), final.get(objective.test_key)
    return (
        NOTHING if best is None else objective.format(best),
        NOTHING if best is None else f"{final[metrics.BEST_EPOCH]:.0f}",
        NOTHING if test is None else objective.format(test),
        f"{history.seconds:.1f}" if history.epochs else NOTHING,
    )
