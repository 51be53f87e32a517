"""The table of runs in training: one line each, with the curve as a sparkline."""

from collections.abc import Mapping, Sequence
from math import ceil

from harness.job.interruption import Stopped
from harness.run.estimate import duration
from harness.run.fitted_table import FittedTable
from harness.run.run_table import objectives
from harness.run.standing import Standing
from harness.runfolder import streams
from harness.runfolder.status import RunStatus

CURVE = 14  # characters of a sparkline
BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-~=+*#"


def standing_table(
    rows: Sequence[Standing], names: Mapping[str, str], mark: int | None = None
) -> FittedTable:
    """One line per run; with several data sets or objectives, each line names its own.

    names: by run id, if not the run's own. mark: the number of the selected row in a live display;
    None for a table that is printed.
    """
    different = objectives([each.history for each in rows])
    sets = {each.data_set for each in rows}
    title = different[0].short_title if len(different) == 1 else "value"
    table = FittedTable(tells=mark is None)
    if mark is not None:
        table.add("")
    table.add("run", folds=True)
    if len(sets) > 1:
        table.add("data set", folds=True)
    if len(different) > 1:
        table.add("objective", folds=True)
    table.add("status", drop=4)
    table.add("epoch", right=True)
    table.add("curve")
    table.add(title, right=True)
    table.add("95 % interval", right=True, drop=2)
    table.add("rank", right=True)
    table.add("left", right=True, drop=3)
    table.add("run id", drop=1)
    shown_bars = bars()
    for number, each in enumerate(rows):
        history = each.history
        table.add_row(
            *([] if mark is None else [">" if number == mark else ""]),
            names.get(history.run, history.name),
            *([each.data_set] if len(sets) > 1 else []),
            *([str(each.objective)] if len(different) > 1 else []),
            state(each),
            f"{len(history.epochs)}/{each.total}",
            sparkline(each.curve, shown_bars),
            "" if each.value is None else each.objective.format(each.value),
            _interval(each),
            _ranks(each),
            "" if each.left_s is None else duration(each.left_s).removeprefix("about "),
            history.run,
            style="bold" if number == mark else None,
        )
    return table


def bars() -> str:
    """The characters of a curve, low to high, that standard output can show."""
    return BARS if streams.can_print(BARS) else PLAIN_BARS


def state(standing: Standing) -> str:
    """The status of a run in words."""
    if standing.history.is_pruned:
        return standing.history.how_pruned
    if standing.status is RunStatus.KILLED and standing.history.error == Stopped.why:
        return "stopped"
    is_waiting = standing.status is RunStatus.CREATED
    return "not started" if is_waiting else standing.status.lower()


def sparkline(curve: Sequence[float], bars: str = BARS, width: int = CURVE) -> str:
    """A curve as at most `width` bars; each is the last value of its part. bars: low to high."""
    finite = [value for value in curve if value - value == 0]
    if not finite:
        return ""
    count = min(width, len(finite))
    shown = [finite[ceil((number + 1) * len(finite) / count) - 1] for number in range(count)]
    low, high = min(shown), max(shown)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] for value in shown)


def _interval(standing: Standing) -> str:
    if standing.interval is None or standing.interval[0] == standing.interval[1]:
        return ""
    low, high = (standing.objective.format(each) for each in standing.interval)
    return f"{low.removesuffix('%')} to {high}"


def _ranks(standing: Standing) -> str:
    if standing.ranks is None:
        return ""
    best, worst = standing.ranks
    return str(best) if best == worst else f"{best} to {worst}"
