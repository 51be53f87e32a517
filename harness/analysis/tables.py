"""The tables of a comparison as people read them, on the page and in the terminal.

`COLUMNS` is the ranking: a new column is one entry there. It appears on the page, and in the
terminal if it has a `short` title. What programs read is in `fields.py`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.analysis.ranking import BEST, BETTER, LOWEST, TIE, WORSE, Standing
from harness.analysis.settings import SeedRun, Setting, Summary

Row = TypeVar("Row")
DASH = "–"


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    title: the heading on the page, with a line break where it may wrap. cell: the text for a row.
    short: the heading in the terminal; None: only on the page. brief: the text in the terminal, if
    it differs from `cell`.
    """

    title: str
    cell: Callable[[Row], str]
    short: str | None = None
    brief: Callable[[Row], str] | None = None


def percent(value: float) -> str:
    """`1.97 %`, or a dash for NaN."""
    return DASH if math.isnan(value) else f"{100 * value:.2f} %"


def spread(summary: Summary) -> str:
    """`1.97 ± 0.05 %`, mean and standard deviation; the mean alone for one seed."""
    if math.isnan(summary.deviation):
        return percent(summary.mean)
    return f"{100 * summary.mean:.2f} ± {100 * summary.deviation:.2f} %"


def span(low: float, high: float) -> str:
    """`1.90 – 2.05 %`, or a dash for NaN."""
    return DASH if math.isnan(low) else f"{100 * low:.2f} – {100 * high:.2f} %"


def p_value(p: float | None) -> str:
    """`0.031`, `< 0.001`, or a dash for None."""
    return DASH if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def mark(verdict: str) -> str:
    """The sign of a verdict in the terminal."""
    return {BEST: "*", LOWEST: "*", TIE: "=", BETTER: "+"}.get(verdict, "")


def _tested(run: SeedRun) -> str:
    low, high = run.test_interval
    bounds = "" if math.isnan(low) else f" [{100 * low:.2f}, {100 * high:.2f}]"
    return percent(run.test_error) + bounds


def _seconds(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.1f}"


def _best_epoch(summary: Summary) -> str:
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
    Column("n", lambda s: str(len(s.setting.runs)), short="n"),
    Column(
        "validation error,\nbest epoch",
        lambda s: spread(s.setting.best_val),
        short="val error, best epoch",
    ),
    Column(
        "best – worst",
        lambda s: span(s.setting.best_val.best, s.setting.best_val.worst),
    ),
    Column("best epoch", lambda s: _best_epoch(s.setting.epoch)),
    Column(
        "validation error,\nlast epoch",
        lambda s: spread(s.setting.last_val),
        short="last epoch",
    ),
    Column("test error", lambda s: spread(s.setting.test), short="test error"),
    Column(
        "chosen run’s test\nerror [95 %]",
        lambda s: _tested(s.setting.chosen),
        short="chosen run [95 %]",
        brief=lambda s: span(*s.setting.chosen.test_interval),
    ),
    Column(
        "against the best",
        lambda s: s.verdict if s.p is not None else s.why or s.verdict,
    ),
    Column("p", lambda s: p_value(s.p), short="p"),
    Column("seeds to tell", lambda s: s.seeds, short="seeds to tell"),
    Column("seconds", lambda s: _seconds(s.setting.seconds.mean), short="seconds"),
)

RUN_COLUMNS: Sequence[Column[SeedRun]] = (
    Column("run", lambda run: run.run),
    Column("seed", lambda run: run.seed),
    Column("validation error,\nbest epoch", lambda run: percent(run.best_val)),
    Column("best epoch", lambda run: str(run.best_epoch or DASH)),
    Column("validation error,\nlast epoch", lambda run: percent(run.last_val)),
    Column("test error [95 %]", _tested),
    Column("seconds", lambda run: _seconds(run.seconds)),
)


def ranking(
    standings: Sequence[Standing], *, terminal: bool = False
) -> tuple[list[str], list[list[str]]]:
    """The headings and the cells of the ranking, one row per setting."""
    rows = [(standing.setting, standing) for standing in standings]
    return _table(COLUMNS, rows, terminal=terminal)


def all_runs(settings: Sequence[Setting]) -> tuple[list[str], list[list[str]]]:
    """The headings and the cells of the table of all runs, on the page."""
    return _table(RUN_COLUMNS, [(setting, run) for setting in settings for run in setting.runs])


def _table(
    columns: Sequence[Column[Row]], rows: Sequence[tuple[Setting, Row]], *, terminal: bool = False
) -> tuple[list[str], list[list[str]]]:
    if terminal:
        shown = [(c.short, c.brief or c.cell) for c in columns if c.short is not None]
    else:
        shown = [(c.title, c.cell) for c in columns]
    (title, first), *others = shown
    head = [title, *rows[0][0].values, *(title for title, _ in others)]
    cells = [
        [first(row), *setting.values.values(), *(cell(row) for _, cell in others)]
        for setting, row in rows
    ]
    return head, cells


def lead(standings: Sequence[Standing]) -> str:
    """The answer in one or two sentences."""
    best = standings[0]
    n, label = len(best.setting.runs), best.setting.label
    over = f"over {n} seeds" if n > 1 else "with one seed"
    val, test = spread(best.setting.best_val), spread(best.setting.test)
    if best.verdict == LOWEST:
        text = f"{label} has the lowest test error: {test} {over}."
    elif len(standings) == 1:
        text = f"{label}: validation error {val} {over}, test error {test}."
    else:
        text = (
            f"{label} has the lowest validation error: {val} {over}, each at its best epoch; its "
            f"test error is {test}."
        )
    for verdict, words in (
        (TIE, "Not distinguishable from it at 5 %"),
        (WORSE, "Worse"),
        (BETTER, "Better on the test set, though not on validation"),
    ):
        names = [each.setting.label for each in standings if each.verdict == verdict]
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        if names:
            text += f" {words}: {', '.join(names[:6])}{more}."
    return text
