"""`python -m harness diff A B`: what differs between two runs."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from harness.analysis import diff as differing
from harness.analysis import tables
from harness.analysis.diff import Curves, Difference, Rows, Sides
from harness.commands.options import EVERY_OUTPUTS, JSON, refuse
from harness.data.atomic import write_bytes
from harness.run.fitted_table import FittedTable, show
from harness.run.standing_table import bars
from harness.runfolder.optional import attempt
from harness.runfolder.run import Run
from harness.runfolder.selection import only, select

WIDTH = 40  # characters of a curve
SECTIONS = ("settings", "source", "data", "environment", "results")


@click.command()
@click.argument("first")
@click.argument("second")
@EVERY_OUTPUTS
@JSON
def diff(first: str, second: str, outputs: tuple[Path, ...], *, as_json: bool) -> None:
    """Show what differs between two runs: settings, source, data, machine, curves, predictions.

    Test images that only one of the runs misclassifies are drawn to diffs/ in the first
    outputs folder.
    """
    try:
        one, other = _run(outputs, first), _run(outputs, second)
        if one == other and not as_json:
            print(f"{first} and {second} are the same run, {one.id}: nothing differs")
            return
        difference = differing.compare(one, other)
    except ValueError as error:
        refuse(error)
    if as_json:
        print(json.dumps(_fields(difference), indent=1, allow_nan=False))
        return
    _print(difference)
    nothing: dict[Path, str] = {}
    drawn = attempt("no pictures", lambda: _draw(difference, outputs[0]), nothing)
    for path, title in drawn.items():
        print(f"{title}: {path}")
    for note in difference.notes:
        print(f"note: {note}", file=sys.stderr)


def _run(outputs: tuple[Path, ...], word: str) -> Run:
    """The one run that a word selects. Raises `ValueError`."""
    return only(select(outputs, [word]))


def _print(difference: Difference) -> None:
    first, second = difference.runs
    for name in SECTIONS:
        rows: Rows = getattr(difference, name)
        if rows:
            show(_table(name, rows, difference))
    equal = [name for name in SECTIONS if not getattr(difference, name)]
    if equal:
        print(f"equal: {', '.join(equal)}")
    for curves in difference.curves:
        _print_curves(curves, first.id, second.id)
    if difference.sides is not None:
        _print_sides(difference.sides, first.id, second.id)


def _table(name: str, rows: Rows, difference: Difference) -> FittedTable:
    table = FittedTable(name)
    table.add("", folds=True)
    for run in difference.runs:
        table.add(run.id, folds=True)
    shown = differing.number if name == "results" else differing.text
    for key, values in rows.items():
        table.add_row(key, *map(shown, values))
    return table


def _print_curves(curves: Curves, first: str, second: str) -> None:
    most = max(len(curves.first), len(curves.second))
    if curves.equal == most and len(curves.first) == len(curves.second):
        print(f"{curves.metric}: equal to the last bit in all {most} epochs")
        return
    same = f"equal until epoch {curves.equal}" if curves.equal else "different from epoch 1 on"
    print(f"{curves.metric}: {same}")
    low, high = _limits(curves.first, curves.second)
    for name, values in ((first, curves.first), (second, curves.second)):
        print(f"  {name}  {sparkline(values, low, high)}  {values[0]:.4g} to {values[-1]:.4g}")


def _limits(*curves: NDArray[np.float64]) -> tuple[float, float]:
    every = np.concatenate(curves)
    known = every[np.isfinite(every)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)


def sparkline(values: NDArray[np.float64], low: float, high: float) -> str:
    """A curve in at most `WIDTH` characters, each the last of an equal share of the epochs."""
    ends = np.unique(np.linspace(0, len(values) - 1, min(len(values), WIDTH)).round().astype(int))
    span = high - low or 1.0
    shown = bars()
    return "".join(
        shown[round((value - low) / span * (len(shown) - 1))] if np.isfinite(value) else "?"
        for value in values[ends].tolist()
    )


def _print_sides(sides: Sides, first: str, second: str) -> None:
    counts = len(sides.only_first), len(sides.only_second)
    print(
        f"of {len(sides.first.labels):,} test examples, only {first} misclassifies {counts[0]}, "
        f"and only {second} {counts[1]} (McNemar's p {tables.p_value(sides.p)})"
    )


def _draw(difference: Difference, outputs: Path) -> dict[Path, str]:
    """Draw the images that changed sides; returns the files with their titles."""
    names = [run.id for run in difference.runs]
    folder = outputs / "diffs" / "-and-".join(name.partition("-")[0] for name in names)
    made = {}
    for title, chart in differing.pictures(difference, difference.notes).items():
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{title.replace(' ', '-')}.png"
        write_bytes(path, chart.file("png", 6))
        made[path] = title
    return made


def _plain(rows: Rows) -> dict[str, list[Any]]:
    """The pairs as JSON values: null for NaN and for a missing value, `inf` as text."""

    def plain(value: Any) -> Any:
        if value == differing.NOTHING or value != value:
            return None
        return str(value) if isinstance(value, float) and math.isinf(value) else value

    return {key: [plain(each) for each in pair] for key, pair in rows.items()}


def _fields(difference: Difference) -> dict[str, Any]:
    """The difference as JSON values."""
    one, other = difference.runs
    same = [f"both are run {one.id}"] if one == other else []
    sides = difference.sides
    examples = None
    if sides is not None:
        examples = {
            "only_first_wrong": sides.only_first.tolist(),
            "only_second_wrong": sides.only_second.tolist(),
            "p": sides.p,
        }
    return {
        "format": "harness diff",
        "version": 1,
        "runs": [run.id for run in difference.runs],
        **{name: _plain(getattr(difference, name)) for name in SECTIONS},
        "equal_epochs": {curves.metric: curves.equal for curves in difference.curves},
        "examples": examples,
        "notes": [*same, *difference.notes],
    }
