"""The tables of a comparison as people read them, on the page and in the terminal.

`COLUMNS` is the ranking: a new column is one entry there. It appears on the page, and in the
terminal if it has a `short` title. What programs read is in `fields.py`. A title may name what the
objective is called, by the names in `_words`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.analysis.ranking import (
    BETTER,
    ENDED,
    FIRST,
    TIE,
    UNKNOWN,
    WORSE,
    Standing,
    are_untested,
    equal,
)
from harness.analysis.seed_run import SeedRun
from harness.analysis.settings import Setting, Summary, epoch_title
from harness.runfolder.cost import Cost, spelled
from harness.runfolder.objective import DEFAULT, Objective

Row = TypeVar("Row")
DASH = "–"
MOST_PLAIN = 1e6  # larger numbers have an exponent
UNDECIDED = "no verdict of until=decided is recorded here"
UNTESTED = "not tested"
MARKS = {  # in the terminal: the sign of a verdict, and what it means
    TIE: ("=", "not distinguishable from it at 5 %"),
    BETTER: ("+", BETTER),
    WORSE: ("-", WORSE),
    ENDED: ("x", "ended, as it cannot be the best"),
    UNKNOWN: ("?", UNTESTED),
}
MOST_NAMES, MOST_CHARACTERS = 6, 100  # of the settings that a sentence names


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    title: the heading on the page, with a line break where it may wrap. cell: the text for a row.
    short: the heading in the terminal; None: only on the page. brief: the text in the terminal, if
    it differs from `cell`. drop: the order in which columns are left out of a narrow terminal, 1
    first; 0: never. where: the objectives with which the table has it.
    """

    title: str
    cell: Callable[[Row], str]
    short: str | None = None
    brief: Callable[[Row], str] | None = None
    drop: int = 0
    where: Callable[[Objective], bool] = lambda _: True


def by_epoch(objective: Objective) -> bool:
    """Whether an epoch of each run is judged, as in the runs of this program."""
    return objective.by_epoch


def figure(value: float, objective: Objective = DEFAULT) -> str:
    """`1.97 %`, `0.08312` for an objective that is no fraction, or a dash for NaN."""
    return DASH if math.isnan(value) else objective.number(value)


def spread(summary: Summary, objective: Objective = DEFAULT) -> str:
    """`1.97 ± 0.05 %`, mean and standard deviation; the mean alone for one seed."""
    if math.isnan(summary.deviation):
        return figure(summary.mean, objective)
    if not objective.is_fraction:
        mean, deviation = _alike(summary.mean, summary.deviation, by=summary.deviation, digits=2)
        return f"{mean} ± {deviation}"
    return f"{100 * summary.mean:.2f} ± {100 * summary.deviation:.2f} %"


def span(low: float, high: float, objective: Objective = DEFAULT) -> str:
    """`1.90 – 2.05 %`, or a dash for NaN."""
    if math.isnan(low):
        return DASH
    if not objective.is_fraction:
        low_text, high_text = _alike(low, high, by=high, digits=4)
        return f"{low_text} – {high_text}"
    return f"{100 * low:.2f} – {100 * high:.2f} %"


def _alike(*values: float, by: float, digits: int) -> list[str]:
    """Numbers with as many decimals as give `by` so many significant digits."""
    is_known = by != 0 and math.isfinite(by)
    decimals = digits - 1 - math.floor(math.log10(abs(by))) if is_known else -1
    if not is_known or decimals > 6 or abs(by) >= MOST_PLAIN:
        return [f"{value:.4g}" for value in values]
    return [f"{value:.{max(0, decimals)}f}" for value in values]


def p_value(p: float | None) -> str:
    """`0.031`, `< 0.001`, or a dash for None."""
    return DASH if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def mark(verdict: str) -> str:
    """The sign of a verdict in the terminal."""
    return "*" if verdict in FIRST else MARKS[verdict][0]


def legend(standings: Sequence[Standing], best: str = "") -> str:
    """What the marks of a ranking mean. best: more about the one of the best."""
    mean = " mean" if are_untested(standings) else ""
    found = {each.verdict for each in standings}
    words = [" ".join(each) for verdict, each in MARKS.items() if verdict in found]
    return ", ".join([f"* best{mean}{best}", *words])


def _tested(run: SeedRun) -> str:
    low, high = run.test_interval
    bounds = "" if math.isnan(low) else f" [{100 * low:.2f}, {100 * high:.2f}]"
    return figure(run.test, run.objective.tested) + bounds


def _chosen(run: SeedRun) -> str:
    """What is known of the chosen run's test metric: its interval, where it has one."""
    if run.objective.by_epoch and run.objective.counts_examples:
        return span(*run.test_interval)
    return figure(run.test, run.objective.tested)


def _verdict(standing: Standing) -> str:
    if standing.verdict == UNKNOWN:
        return f"{UNTESTED}: {standing.why}"
    if standing.verdict == ENDED:
        return MARKS[ENDED][1]
    if standing.verdict == BETTER and not standing.setting.objective.by_epoch:
        return f"better in {standing.setting.objective.test_title}"
    return standing.verdict


def _seconds(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.1f}"


def _epoch(summary: Summary) -> str:
    if math.isnan(summary.mean):
        return DASH
    return f"{summary.mean:.0f}" if summary.n == 1 else f"{summary.mean:.1f}"


# The ranking. The keys that distinguish the settings follow the first column.
COLUMNS: Sequence[Column[Standing]] = (
    Column(
        "",
        lambda s: DASH if s.rank is None else str(s.rank),
        short="",
        brief=lambda s: mark(s.verdict),
    ),
    Column("n", lambda s: str(len(s.setting.runs)), short="n", drop=5),
    Column(
        "{objective}{judged}",
        lambda s: spread(s.setting.best_val, s.setting.objective),
        short="{short}{judged_short}",
    ),
    Column(
        "best – worst",
        lambda s: span(s.setting.best_val.best, s.setting.best_val.worst, s.setting.objective),
    ),
    Column("{epoch}", lambda s: _epoch(s.setting.epoch), where=by_epoch),
    Column(
        "{objective},\nlast epoch",
        lambda s: spread(s.setting.last_val, s.setting.objective),
        short="last epoch",
        drop=3,
        where=by_epoch,
    ),
    Column(
        "{test}",
        lambda s: spread(s.setting.test, s.setting.objective.tested),
        short="{test}",
        drop=7,
        where=lambda objective: objective.is_tested_apart,
    ),
    Column(
        "{test},\nmean [95 %]",
        lambda s: span(*s.setting.test.interval, s.setting.objective.tested),
        short="mean [95 %]",
        drop=4,
        where=lambda objective: not objective.by_epoch,
    ),
    Column(
        "chosen run’s {chosen}{interval}",
        lambda s: _tested(s.setting.chosen),
        short="chosen run{interval}",
        brief=lambda s: _chosen(s.setting.chosen),
        drop=4,
        where=by_epoch,
    ),
    Column("against the best", _verdict),
    Column("p", lambda s: p_value(s.p), short="p", drop=6),
    Column("seeds to tell", lambda s: s.seeds, short="seeds to tell", drop=2),
    Column(
        "seconds",
        lambda s: _seconds(s.setting.seconds.mean),
        short="seconds",
        drop=1,
        where=by_epoch,
    ),
)

AFTER = 3  # number, n and objective

RUN_COLUMNS: Sequence[Column[SeedRun]] = (
    Column("run", lambda run: run.run),
    Column("seed", lambda run: run.seed),
    Column("{objective}{judged}", lambda run: figure(run.best_val, run.objective)),
    Column("{epoch}", lambda run: str(run.best_epoch or DASH), where=by_epoch),
    Column(
        "{objective},\nlast epoch",
        lambda run: figure(run.last_val, run.objective),
        where=by_epoch,
    ),
    Column("{test}{interval}", _tested, where=lambda objective: objective.is_tested_apart),
    Column("seconds", lambda run: _seconds(run.seconds), where=by_epoch),
)


def ranking(
    standings: Sequence[Standing], *, terminal: bool = False
) -> tuple[list[str], list[list[str]]]:
    """The headings and the cells of the ranking, one row per setting."""
    rows = [(standing.setting, standing) for standing in standings]
    return _table(_columns(standings[0].setting), rows, terminal=terminal)


def drops(setting: Setting) -> list[int]:
    """`Column.drop` of the columns behind the keys of the ranking in the terminal."""
    columns = _columns(setting)[1:]
    return [c.drop for c in columns if c.short is not None and c.where(setting.objective)]


def _columns(setting: Setting) -> list[Column[Standing]]:
    """The columns of the ranking; what a setting costs follows the objective."""
    return [*COLUMNS[:AFTER], *_cost_columns(setting), *COLUMNS[AFTER:]]


def _cost_columns(setting: Setting) -> list[Column[Standing]]:
    """The columns of what the settings cost, and of the Pareto front."""
    columns = [_cost_column(cost) for cost in setting.costs]
    if columns:
        columns.append(Column("front", lambda s: "yes" if s.on_front else "", short="front"))
    return columns


def _cost_column(cost: Cost) -> Column[Standing]:
    return Column(cost.metric, lambda s: paid(s.setting.cost(cost), cost), short=cost.metric)


def costs(standing: Standing) -> list[str]:
    """The cells of `_cost_columns`."""
    return [column.cell(standing) for column in _cost_columns(standing.setting)]


def paid(summary: Summary, cost: Cost) -> str:
    """A cost, mean and standard deviation: whole numbers as they are, errors in percent."""
    if math.isnan(summary.mean):
        return DASH
    if cost.by_epoch and Objective(cost.metric).is_fraction:
        return spread(summary, Objective(cost.metric))
    mean = spelled(summary.mean)
    return mean if not summary.deviation > 0 else f"{mean} ± {summary.deviation:.2g}"


def all_runs(settings: Sequence[Setting]) -> tuple[list[str], list[list[str]]]:
    """The headings and the cells of the table of all runs, on the page."""
    return _table(RUN_COLUMNS, [(setting, run) for setting in settings for run in setting.runs])


def _table(
    columns: Sequence[Column[Row]], rows: Sequence[tuple[Setting, Row]], *, terminal: bool = False
) -> tuple[list[str], list[list[str]]]:
    setting = rows[0][0]
    columns = [column for column in columns if column.where(setting.objective)]
    if terminal:
        shown = [(c.short, c.brief or c.cell) for c in columns if c.short is not None]
    else:
        shown = [(c.title, c.cell) for c in columns]
    words = _words(setting.objective, epoch_title([row[0] for row in rows]))
    (title, first), *others = shown
    head = [title, *setting.values, *(title.format_map(words) for title, _ in others)]
    cells = [
        [first(row), *setting.shown.values(), *(cell(row) for _, cell in others)]
        for setting, row in rows
    ]
    return head, cells


def _words(objective: Objective, epoch: str) -> dict[str, str]:
    """What the titles of columns may name."""
    return {
        "epoch": epoch,
        "judged": f",\n{epoch}" if objective.by_epoch else "",
        "judged_short": f", {epoch}" if objective.by_epoch else "",
        "objective": objective.title,
        "short": objective.short_title,
        "test": objective.test_title,
        "chosen": f"test\n{objective.name}",
        "interval": " [95 %]" if objective.by_epoch and objective.counts_examples else "",
    }


def lead(standings: Sequence[Standing], verdict: str = "") -> str:
    """The answer in a few sentences. verdict: of `until=decided`, which comes first."""
    said = decided(standings, verdict)
    return f"{said}. {_answer(standings)}" if said else _answer(standings)


def decided(standings: Sequence[Standing], verdict: str) -> str:
    """What `until=decided` decided, without what its verdict says of p values, which are not shown.

    Empty for other settings.
    """
    said = verdict.partition(". ")[0] or (UNDECIDED if are_untested(standings) else "")
    return said[:1].upper() + said[1:]


def _answer(standings: Sequence[Standing]) -> str:
    best = standings[0]
    n, label, objective = len(best.setting.runs), best.setting.label, best.setting.objective
    over = f"{'over' if n > 1 else 'with'} {best.setting.seeds}"
    word, title, test_title = objective.best_word, objective.title, objective.test_title
    word += " mean" if are_untested(standings) else ""
    value = spread(best.setting.best_val, objective)
    test = spread(best.setting.test, objective.tested)
    epoch = epoch_title([each.setting for each in standings])
    at = f", {'each ' * (n > 1)}at its {epoch}" if objective.by_epoch else ""
    apart = objective.is_tested_apart
    equals = [each.setting for each in standings[1:] if equal(best.setting, each.setting)]
    if equals:
        others = "another is" if len(equals) == 1 else f"{len(equals)} others are"
        listed = _listed([setting.label for setting in equals])
        label += f", to which {others} equal ({listed}),"
    if best.rank is None:
        text = f"{label} has the {word} {test_title}: {test} {over}."
    elif len(standings) == 1:
        text = f"{label}: {title} {value} {over}{f', {test_title} {test}' if apart else ''}."
    else:
        text = f"{label} has the {word} {title}: {value} {over}{at}"
        text += f"; its {test_title} is {test}." if apart else "."
    better = f"Better in {test_title}"
    better += f", though not in {title}" if apart else ", over the seeds in common"
    if objective.by_epoch:
        better = f"Better on the test set, though not on {objective.part_title}"
    for verdict, words in (
        (TIE, "Not distinguishable from it at 5 %"),
        (WORSE, "Worse"),
        (BETTER, better),
        (ENDED, "Ended, as they cannot be the best"),
        (UNKNOWN, UNTESTED.capitalize()),
    ):
        names = [each.setting.label for each in standings if each.verdict == verdict]
        if names and not are_untested(standings):
            text += f" {words}: {_listed(names)}."
        if verdict != TIE:
            continue
        ties = [each.setting for each in standings if each.verdict == TIE]
        names = [each.label for each in ties if _are_apart(best.setting.test, each.test)]
        if names:
            text += (
                f" The {test_title}s of {_listed(names)} do not overlap with those of the best, "
                "but there are too few seeds to show that this is no accident."
            )
    return text + front(standings)


def front(standings: Sequence[Standing]) -> str:
    """Which settings are on the Pareto front, in a sentence; nothing without costs."""
    first = standings[0].setting
    if not first.costs:
        return ""
    names = [each.setting.label for each in standings if each.on_front]
    of = ", ".join([first.objective.title, *(cost.metric for cost in first.costs)])
    if not names:
        return f" No setting has a value of each of {of}."
    return f" On the Pareto front of {of}: {_listed(names)}."


def _are_apart(first: Summary, second: Summary) -> bool:
    """Whether every value of one is above every value of the other, of two or more each."""
    low, high = sorted(sorted((each.best, each.worst)) for each in (first, second))
    return min(first.n, second.n) > 1 and low[1] < high[0]


def _listed(names: Sequence[str]) -> str:
    """The first of the settings, as many as a sentence can hold; the number of all if none fits."""
    shown = list(names[:MOST_NAMES])
    while shown and len(", ".join(shown)) > MOST_CHARACTERS:
        shown.pop()
    if not shown:
        return "1 setting" if len(names) == 1 else f"{len(names)} settings"
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more
