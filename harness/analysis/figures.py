"""Which pictures a report has, and what each of them shows."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis import charts, ranking
from harness.analysis.page import Picture
from harness.analysis.ranking import Outcome
from harness.analysis.settings import Curve, SeedRun, Setting, natural, number, swept_numbers
from harness.nn import metrics

SHOWN = 12  # settings whose curves are drawn and whose predictions are compared
CURVES = {
    metrics.VAL_ERROR: ("Validation error", "validation error (%)", 100),
    metrics.TRAIN_LOSS: ("Training loss", "training loss (nats)", 1),
}
NUMBERS, MAPS, CELLS = 4, 3, 12
WRONG, UNITS = 24, 40


@dataclass(frozen=True)
class Best:
    """What there is to look at of the best setting's chosen run; None where it is missing.

    images: (N, rows, columns) uint8, the test images in file order. weights: (rows, columns, H),
    the first layer.
    """

    outcome: Outcome | None = None
    images: NDArray[np.uint8] | None = None
    weights: NDArray[np.floating[Any]] | None = None


def curves(settings: Sequence[Setting]) -> list[Picture]:
    """Learning curves of the settings ranked first."""
    pictures = []
    shown = settings[:SHOWN]
    for key, (title, label, factor) in CURVES.items():
        series = {s.label: factor * padded([t.curves.get(key, np.empty(0)) for t in s.runs])
                  for s in shown}  # fmt: skip
        series = {name: values for name, values in series.items() if np.isfinite(values).any()}
        if not series or max(values.shape[1] for values in series.values()) < 2:
            continue
        caption = "Mean over seeds; the band is from the lowest to the highest run."
        if len(shown) < len(settings):
            caption += f" The {len(shown)} settings ranked first of {len(settings)}."
        pictures.append(Picture("curves", title, charts.bands(label, series), caption))
    return pictures


def padded(rows: Sequence[Curve]) -> NDArray[np.float64]:
    """(runs, epochs) of curves of different length, NaN where a run had ended."""
    width = max((len(row) for row in rows), default=0)
    table = np.full((len(rows), width), np.nan)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def swept(settings: Sequence[Setting]) -> list[Picture]:
    """Error against each swept number, maps of two keys, and time against error."""
    validated = any(setting.best_val.n for setting in settings)
    pictures = []
    others = len(settings[0].values) > 1
    for key in swept_numbers(settings)[:NUMBERS]:
        points = {"test": _points(settings, key, lambda run: run.test_error)}
        if validated:
            best = _points(settings, key, lambda run: run.best_val)
            points = {"validation, best epoch": best, **points}
        points = {name: rows for name, rows in points.items() if rows}
        if not points:
            continue
        caption = "Mean of the runs with this value; bars from the lowest to the highest."
        caption += " The other keys vary, too." if others else ""
        pictures.append(Picture("swept", f"Error by {key}", charts.against(key, points), caption))
    pair_of_keys = itertools.combinations(list(settings[0].values)[:3], 2)
    for keys in itertools.islice(pair_of_keys, MAPS):
        picture = heat_map(settings, keys, validated=validated)
        pictures += [picture] if picture else []
    return pictures + _front(settings, validated=validated)


def heat_map(
    settings: Sequence[Setting], keys: tuple[str, str], *, validated: bool
) -> Picture | None:
    """Mean error for every pair of values of two keys; None when there are too few or too many."""
    rows, columns = (sorted({s.values[key] for s in settings}, key=natural) for key in keys)
    if not (2 <= len(rows) <= CELLS and 2 <= len(columns) <= CELLS):
        return None
    cells: dict[tuple[int, int], list[float]] = {}
    for setting in settings:
        place = (rows.index(setting.values[keys[0]]), columns.index(setting.values[keys[1]]))
        mean = setting.best_val.mean if validated else setting.test.mean
        cells.setdefault(place, []).extend([] if math.isnan(mean) else [100 * mean])
    table = np.full((len(rows), len(columns)), np.nan)
    for place, values in cells.items():
        table[place] = np.mean(values) if values else np.nan
    if not np.isfinite(table).any():
        return None
    what = "Validation" if validated else "Test"
    return Picture(
        "swept",
        f"{what} error by {keys[0]} and {keys[1]}",
        charts.heat_map(keys, rows, columns, table),
        "Percent, mean over seeds" + (" at the best epoch." if validated else "."),
    )


def best(
    chosen: Best, runner_up: tuple[str, Outcome] | None, label: str, classes: int
) -> list[Picture]:
    """Confusion matrices, the most confidently wrong digits, and the first layer's weights."""
    pictures = []
    outcome = chosen.outcome
    if outcome is not None:
        counts = ranking.confusion(outcome.labels, outcome.predicted, classes)
        pictures.append(
            Picture("images", f"Confusion matrix of {label}", charts.confusion(counts),
                    "Test images of the chosen run.")
        )  # fmt: skip
        if runner_up is not None:
            name, other = runner_up
            difference = counts - ranking.confusion(other.labels, other.predicted, classes)
            pictures.append(
                Picture("images", f"Difference to the runner-up, {name}",
                        charts.confusion(difference, difference=True),
                        "Counts of the best minus those of the runner-up: red off the diagonal are "
                        "mistakes that the best makes more often.")
            )  # fmt: skip
        rows = ranking.confidently_wrong(outcome, WRONG)
        if chosen.images is not None and len(rows):
            captions = [f"{outcome.labels[r]} as {outcome.predicted[r]}, "
                        f"{100 * outcome.confidence[r]:.0f} %" for r in rows]  # fmt: skip
            pictures.append(
                Picture("images", "Most confidently wrong",
                        charts.gallery(chosen.images[rows].astype(float), captions),
                        "Truth, answer, and the probability given to the answer.")
            )  # fmt: skip
    if chosen.weights is not None:
        weights = np.moveaxis(chosen.weights, -1, 0)
        strongest = np.argsort(-np.square(weights).sum(axis=(1, 2)), kind="stable")[:UNITS]
        pictures.append(
            Picture("images", "First-layer weights",
                    charts.gallery(weights[np.sort(strongest)].astype(float), (), signed=True),
                    f"The {len(strongest)} of {len(weights)} hidden units with the largest weights "
                    "of the chosen run; red raises the unit, blue lowers it, each on its own "
                    "scale.")
        )  # fmt: skip
    return pictures


def _points(
    settings: Sequence[Setting], key: str, quantity: Callable[[SeedRun], float]
) -> list[tuple[float, float, float, float]]:
    values: dict[float, list[float]] = {}
    for setting in settings:
        value = number(setting.values[key])
        assert value is not None, "only keys whose values are all numbers are drawn"
        errors = [quantity(run) for run in setting.runs]
        values.setdefault(value, []).extend(100 * e for e in errors if not math.isnan(e))
    return [
        (value, float(np.mean(errors)), min(errors), max(errors))
        for value, errors in sorted(values.items())
        if errors
    ]


def _front(settings: Sequence[Setting], *, validated: bool) -> list[Picture]:
    points = []
    for setting in settings:
        error = setting.best_val.mean if validated else setting.test.mean
        seconds = setting.seconds.mean
        if not math.isnan(error) and not math.isnan(seconds):
            points.append((setting.label, seconds, 100 * error))
    if len(points) < 2:
        return []
    _, times, errors = zip(*points, strict=True)
    front = ranking.pareto(times, errors)
    label = "validation error (%)" if validated else "test error (%)"
    return [
        Picture(
            "swept",
            "Time against error",
            charts.front(points, front, label),
            "Every setting; no other is both faster and better than one on the line.",
        )
    ]
