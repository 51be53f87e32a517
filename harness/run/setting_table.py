"""The table at the end of a sweep over seeds: one row per setting, as its report ranks them."""

import math
from collections import defaultdict
from collections.abc import Sequence

from harness.analysis import evidence, ranked, tables
from harness.analysis.ranking import Standing, equal
from harness.analysis.settings import Setting, group, natural
from harness.run.fitted_table import FittedTable
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Recorded, from_journal
from harness.tracking.selection import of_plan


def setting_table(runs: Sequence[Run], plan: Plan) -> FittedTable | None:
    """One row per setting: the mean over the finished seeds, and the status of the others.

    runs: of the plan, with one data set and objective. None if rows of runs say more: no setting
    has several seeds or a cost, or some runs repeat one. Raises `ValueError` if no run is finished.
    """
    recorded = [from_journal(run) for run in runs]
    selection = of_plan(plan, recorded)
    repeated: list[str] = []
    settings = group(evidence.seed_runs(selection, recorded), repeated)
    if repeated or (not plan.costs and all(len(each.runs) == 1 for each in settings)):
        return None
    standings = ranked.rank(selection, []).standings([])
    of_run = {run.run: setting for setting in settings for run in setting.runs}
    known_rows = [(each, of_run[each.setting.chosen.run]) for each in standings]
    known = [setting for _, setting in known_rows]
    rest = [setting for setting in settings if setting not in known]
    rows = [*known_rows, *((None, setting) for setting in ([] if plan.is_search else rest))]
    by_id = {run.run: run for run in recorded}
    others = {job.run for job in plan.jobs if job.other_source}
    table = _columns(_title(standings), settings[0])
    if plan.is_search and rest:
        table.caption = f"and {len(rest)} setting(s) without a finished run"
    for standing, setting in rows:
        status = _status([by_id[run.run] for run in setting.runs], others)
        table.add_row(
            *_cells(standing, setting), status, style="bold" if standing is standings[0] else None
        )
    return table


def _columns(title: str, setting: Setting) -> FittedTable:
    objective = setting.objective
    table = FittedTable(title)
    for key in ("", *setting.values):
        table.add(key, folds=True)
    table.add("n", right=True)
    table.add("seeds", folds=True, drop=2)
    table.add(objective.short_title, right=True)
    table.add(objective.test_title, right=True, drop=4)
    for cost in setting.costs:
        table.add(cost.metric, right=True, drop=6)
    if setting.costs:
        table.add("front", drop=5)
    table.add("seconds", right=True, drop=1)
    table.add("status", folds=True, drop=3)
    return table


def _title(standings: Sequence[Standing]) -> str:
    """What the table shows, and what the marks in it mean."""
    best, *others = standings
    objective = best.setting.objective
    by = objective.test_title if best.rank is None else objective.title
    count = 1 + sum(equal(best.setting, each.setting) for each in others)
    first = f", the first of {count} equal ones" if count > 1 else ""
    most = best.setting.best_val.n
    last = ", fewer seeds last" if any(each.setting.best_val.n < most for each in others) else ""
    legend = tables.legend(standings, first)
    order = f", ordered by {by}{last}   ({legend})" if others else ""
    return f"mean ± sd over n seeds{order}"


def _cells(standing: Standing | None, setting: Setting) -> list[str]:
    """The cells of a row without its last one. standing: None if no seed is finished."""
    total = len(setting.runs)
    if standing is None:
        rest = 4 + len(setting.costs) + bool(setting.costs)
        return ["", *setting.shown.values(), f"0 of {total}", *[tables.DASH] * rest]
    counted = standing.setting
    n, objective = len(counted.runs), counted.objective
    seconds = counted.seconds.mean
    return [
        tables.mark(standing.verdict),
        *setting.shown.values(),
        str(n) if n == total else f"{n} of {total}",
        seeds_text([run.seed for run in counted.runs]),
        tables.spread(counted.best_val, objective),
        tables.spread(counted.test, objective.tested),
        *tables.costs(standing),
        tables.DASH if math.isnan(seconds) else f"{seconds:.1f}",
    ]


def seeds_text(seeds: Sequence[str]) -> str:
    """Seeds in order, three or more in a row as a range: `1 to 4, 9`."""
    parts: list[list[str]] = []
    for seed in sorted(seeds, key=natural):
        if parts and seed == _after(parts[-1][-1]):
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(
        f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(part) for part in parts
    )


def _after(seed: str) -> str | None:
    return str(int(seed) + 1) if seed.isdecimal() else None


def _status(runs: Sequence[Recorded], others: set[str]) -> str:
    """`FINISHED` if all seeds are, else a count of each status: `2 FINISHED, 1 FAILED (seed 3)`."""
    seeds: dict[RunStatus, list[str]] = defaultdict(list)
    for run in runs:
        seeds[run.status].append(run.params.get("seed", ""))
    parts: list[str] = []
    for status, of_status in seeds.items():
        if status is RunStatus.FINISHED:
            parts.insert(0, f"{len(of_status)} {status}")
        else:
            word = "seed" if len(of_status) == 1 else "seeds"
            parts.append(f"{len(of_status)} {status} ({word} {seeds_text(of_status)})")
    text = str(RunStatus.FINISHED) if [*seeds] == [RunStatus.FINISHED] else ", ".join(parts)
    accepted = sum(run.run in others for run in runs)
    return f"{text}, {accepted} with other source" if accepted else text
