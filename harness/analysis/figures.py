"""Select and describe the figures of a report."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis import charts, ranking
from harness.analysis.outcome import Outcome, confidently_wrong, confusion
from harness.analysis.page import Figure
from harness.analysis.seed_run import Curve, SeedRun
from harness.analysis.settings import Setting, epoch_title, natural, number, swept_numbers
from harness.nn import metrics
from harness.runfolder.cost import Cost
from harness.runfolder.objective import Objective

NUMBERS, MAPS, CELLS = 4, 3, 12  # most swept numbers, heat maps, and rows or columns of a map
SECONDS = Cost("seconds")  # of which less is better
WRONG, UNITS = 24, 40  # most misclassified images and hidden units


@dataclass(frozen=True)
class Best:
    """The artifacts of the best setting's chosen run; None if missing.

    images: (N, rows, columns) or (N, rows, columns, 3) uint8, the test images in file order.
    weights: (rows, columns, H), of the first layer.
    """

    outcome: Outcome | None = None
    images: NDArray[np.uint8] | None = None
    weights: NDArray[np.floating[Any]] | None = None


def curves(settings: Sequence[Setting]) -> list[Figure]:
    """Learning curves of the settings ranked first."""
    figures = []
    shown = settings[: ranking.SHOWN]
    objective = settings[0].objective
    training = ("Training loss", "training loss", 1)
    kinds = {
        objective.metric: (
            objective.heading(objective.title), f"{objective.title}{objective.unit}",
            objective.factor,
        ),
    }  # fmt: skip
    if objective.by_epoch:
        kinds[metrics.TRAIN_LOSS] = training
    for key, (title, label, factor) in kinds.items():
        steps = None if objective.by_epoch else _steps(shown, key)
        series = {s.label: factor * _rows(s, key, steps) for s in shown}
        series = {name: values for name, values in series.items() if np.isfinite(values).any()}
        if not series or max(values.shape[1] for values in series.values()) < 2:
            continue
        caption = f"Mean over {_kind(settings)}; the band spans the lowest to the highest run."
        if len(shown) < len(settings):
            caption += f" The first {len(shown)} of {len(settings)} settings in the ranking."
        if objective.by_epoch and (key == metrics.TRAIN_LOSS or objective.name == "loss"):
            caption += _different_losses(shown)
        figures.append(Figure("curves", title, charts.bands(label, series, steps), caption))
    return figures


def _kind(settings: Sequence[Setting]) -> str:
    """What the means average over: seeds, or runs whose seeds are unknown."""
    return "seeds" if settings[0].has_seeds else "runs"


def _different_losses(settings: Sequence[Setting]) -> str:
    """A sentence about losses in different units; nothing if all settings have the same."""
    keys = [key for key in settings[0].values if key.partition(".")[0] == "loss"]
    different = [key for key in keys if len({setting.values[key] for setting in settings}) > 1]
    if not different:
        return ""
    return (
        f" The settings have different losses ({', '.join(different)}), whose values are not "
        "comparable: compare the shapes of the curves, not their heights."
    )


def _steps(settings: Sequence[Setting], key: str) -> NDArray[np.int64]:
    """The steps at which any run has a value of a metric, in order."""
    runs = [run for setting in settings for run in setting.runs]
    return np.unique(np.concatenate([run.steps.get(key, np.zeros(0, np.int64)) for run in runs]))


def _rows(setting: Setting, key: str, steps: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """The curves of a setting, (runs, epochs) or (runs, steps), NaN where a run has no value."""
    if steps is None:
        return padded([run.curves.get(key, np.empty(0)) for run in setting.runs])
    table = np.full((len(setting.runs), len(steps)), np.nan)
    for row, run in zip(table, setting.runs, strict=True):
        if key in run.curves:
            row[np.searchsorted(steps, run.steps[key])] = run.curves[key]
    return table


def padded(rows: Sequence[Curve]) -> NDArray[np.float64]:
    """Curves of different lengths as an array (runs, epochs), NaN after the end of a run."""
    width = max((len(row) for row in rows), default=0)
    table = np.full((len(rows), width), np.nan)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def swept(settings: Sequence[Setting]) -> list[Figure]:
    """The objective against each swept number, maps of two keys, and the objective against time."""
    validated = any(setting.best_val.n for setting in settings)
    figures = []
    for key in swept_numbers(settings)[:NUMBERS]:
        figures += _against(settings, key, validated=validated)
    pair_of_keys = itertools.combinations(list(settings[0].values)[:3], 2)
    for keys in itertools.islice(pair_of_keys, MAPS):
        figure = heat_map(settings, keys, validated=validated)
        figures += [figure] if figure else []
    return figures + front(settings)


def _against(settings: Sequence[Setting], key: str, *, validated: bool) -> list[Figure]:
    """The objective and its test metric against a swept number; one figure where they are alike."""
    objective = settings[0].objective
    tested = _points(settings, key, lambda run: run.test, objective.tested)
    best = _points(settings, key, lambda run: run.best_val, objective) if validated else []
    drawn = [(objective, {objective.title: best})]
    if objective.by_epoch:
        judged = f"{objective.part_title}, {epoch_title(settings)}"
        drawn = [(objective, {judged: best, "test": tested})]
    elif objective.is_tested_apart:
        drawn.append((objective.tested, {objective.test_title: tested}))
    figures = []
    for metric, lines in drawn:
        points = {name: rows for name, rows in lines.items() if rows}
        if points:
            caption = "Mean of the runs with this value; the bars span the lowest to the highest."
            caption += " The other keys vary as well." if len(settings[0].values) > 1 else ""
            chart = charts.against(key, points, f"{metric.name}{metric.unit}")
            title = f"{metric.heading(metric.name)} by {key}"
            figures.append(Figure("swept", title, chart, caption))
    return figures


def heat_map(
    settings: Sequence[Setting], keys: tuple[str, str], *, validated: bool
) -> Figure | None:
    """The mean for every pair of values of two keys; None if there are too few or too many.

    validated: the mean of the objective; otherwise of its test metric.
    """
    objective = settings[0].objective
    rows, columns = (sorted({s.values[key] for s in settings}, key=natural) for key in keys)
    if not (2 <= len(rows) <= CELLS and 2 <= len(columns) <= CELLS):
        return None
    cells: dict[tuple[int, int], list[float]] = {}
    for setting in settings:
        cell = (rows.index(setting.values[keys[0]]), columns.index(setting.values[keys[1]]))
        mean = setting.best_val.mean if validated else setting.test.mean
        cells.setdefault(cell, []).extend([] if math.isnan(mean) else [objective.factor * mean])
    table = np.full((len(rows), len(columns)), np.nan)
    for cell, values in cells.items():
        table[cell] = np.mean(values) if values else np.nan
    if not np.isfinite(table).any():
        return None
    title = objective.heading(objective.title if validated else objective.test_title)
    form = "{:.2f}" if objective.is_fraction else "{:.3g}"
    percent = "Percent, mean" if objective.is_fraction else "Mean"
    return Figure(
        "swept",
        f"{title} by {keys[0]} and {keys[1]}",
        charts.heat_map(keys, rows, columns, table, form, maximize=objective.is_max),
        f"{percent} over {_kind(settings)}"
        + (f" at the {epoch_title(settings)}." if validated and objective.by_epoch else "."),
    )


def best(
    chosen: Best, runner_up: tuple[str, Outcome] | None, label: str, names: Sequence[str]
) -> list[Figure]:
    """Confusion matrices, the most confidently misclassified images, and the weights.

    names: the names of all classes.
    """
    figures = []
    if chosen.outcome is not None:
        figures += _confusion(chosen.outcome, runner_up, label, names)
        if chosen.images is not None and chosen.outcome.wrong.any():
            figures.append(_misclassified(chosen.outcome, chosen.images, names))
    if chosen.weights is not None:
        figures.append(_weights(chosen.weights))
    return figures


def _confusion(
    outcome: Outcome, runner_up: tuple[str, Outcome] | None, label: str, names: Sequence[str]
) -> list[Figure]:
    counts = confusion(outcome.labels, outcome.predicted, len(names))
    title = f"Confusion matrix of {label}"
    caption = "Test examples of the chosen run."
    figures = [Figure("images", title, charts.confusion(counts, names), caption)]
    if runner_up is not None:
        name, other = runner_up
        difference = counts - confusion(other.labels, other.predicted, len(names))
        figures.append(
            Figure(
                "images",
                f"Difference from the runner-up, {name}",
                charts.confusion(difference, names, difference=True),
                "Counts of the best minus those of the runner-up: red cells off the diagonal are "
                "mistakes that the best makes more often.",
            )
        )
    return figures


def _misclassified(outcome: Outcome, images: NDArray[np.uint8], names: Sequence[str]) -> Figure:
    rows = confidently_wrong(outcome, WRONG)
    captions = [
        f"{charts.short(names[outcome.labels[row]])} as "
        f"{charts.short(names[outcome.predicted[row]])}, {100 * outcome.confidence[row]:.0f} %"
        for row in rows
    ]
    return Figure(
        "images",
        "Most confidently wrong",
        charts.gallery(images[rows].astype(float), captions),
        "True class, predicted class, and the predicted probability.",
    )


def _weights(weights: NDArray[np.floating[Any]]) -> Figure:
    units = np.moveaxis(weights, -1, 0).astype(float)  # the squares of large ones overflow float32
    strongest = np.argsort(-np.square(units).sum(axis=(1, 2)), kind="stable")[:UNITS]
    return Figure(
        "images",
        "First-layer weights",
        charts.gallery(units[np.sort(strongest)], (), signed=True),
        f"The {len(strongest)} of {len(units)} hidden units with the largest weights, in the "
        "chosen run. Positive weights are red, negative ones blue; each unit has its own scale.",
    )


def _points(
    settings: Sequence[Setting], key: str, quantity: Callable[[SeedRun], float], metric: Objective
) -> list[tuple[float, float, float, float]]:
    values: dict[float, list[float]] = {}
    for setting in settings:
        value = number(setting.values[key])
        assert value is not None, "only keys whose values are all numbers are drawn"
        known = [quantity(run) for run in setting.runs]
        values.setdefault(value, []).extend(metric.factor * each for each in known if each == each)
    return [
        (value, float(np.mean(results)), min(results), max(results))
        for value, results in sorted(values.items())
        if results
    ]


def front(settings: Sequence[Setting]) -> list[Figure]:
    """The objective against the training time and every other cost of a setting."""
    name = settings[0].objective.name
    figures = _front(
        settings, f"Time against {name}", "training time (s), mean over seeds",
        lambda setting: setting.seconds.mean, "No other setting is both faster and better than ",
    )  # fmt: skip
    for cost in settings[0].costs:
        figures += _front(
            settings, f"{cost.metric[:1].upper()}{cost.metric[1:]} against {name}",
            f"{cost.metric}, mean over seeds", partial(_mean, cost),
            "No other setting is better in both than ", cost,
        )  # fmt: skip
    return figures


def _mean(cost: Cost, setting: Setting) -> float:
    return setting.cost(cost).mean


def _front(
    settings: Sequence[Setting],
    title: str,
    label: str,
    paid: Callable[[Setting], float],
    better: str,
    cost: Cost = SECONDS,
) -> list[Figure]:
    """The objective against each setting's cost. better: the start of a sentence on the front."""
    validated = any(setting.best_val.n for setting in settings)
    objective, points, ended = settings[0].objective, [], list[bool]()
    for row, setting in enumerate(settings, 1):
        mean = setting.best_val.mean if validated else setting.test.mean
        if not math.isnan(mean) and not math.isnan(paid(setting)):
            points.append((row, setting.label, paid(setting), objective.factor * mean))
            ended.append(setting.is_ended)
    if len(points) < 2:
        return []
    _, _, costs, means = zip(*points, strict=True)
    results = [
        objective.order(None if is_ended else mean)
        for mean, is_ended in zip(means, ended, strict=True)
    ]
    best = ranking.pareto(list(map(cost.order, costs)), results)
    labels = label, f"{objective.title if validated else objective.test_title}{objective.unit}"
    better += "one on the line." if len(best) > 1 else "the best one."
    better += " Settings that were ended early do not count." if any(ended) else ""
    return [
        Figure(
            "swept",
            title,
            charts.front(points, best, labels),
            f"All settings. {better} A number at a point is its row in the ranking.",
        )
    ]
