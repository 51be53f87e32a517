"""Which setting is better, and whether the difference is real.

Settings are ranked by mean validation error at the best epoch. The differences to the best are
tested on the test set, which had no part in the ranking: over the seeds that both settings have, or
with one seed over the test images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis import statistics
from harness.analysis.settings import Setting, Trial

BEST, LOWEST, TIE = "best", "lowest on test", "tie"
WORSE, BETTER, UNKNOWN = "worse", "better on test", "not compared"


@dataclass(frozen=True)
class Outcome:
    """What one run says of every test image, in file order.

    labels and predicted: (N,) integers; confidence: (N,) float32, the probability of `predicted`.
    """

    labels: NDArray[np.integer[Any]]
    predicted: NDArray[np.integer[Any]]
    confidence: NDArray[np.float32]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(N,) which images are misclassified."""
        wrong: NDArray[np.bool_] = self.predicted != self.labels
        return wrong


@dataclass(frozen=True)
class Standing:
    """A setting's place. p: corrected by Holm over all comparisons with the best.

    seeds: how many seeds would tell it from the best, in words. why: what was tested, or why
    nothing was.
    """

    rank: int | None
    setting: Setting
    verdict: str
    p: float | None = None
    difference: float | None = None
    seeds: str = ""
    why: str = ""


@dataclass(frozen=True)
class Pair:
    """Two settings' chosen runs on the same test images; p is corrected over all pairs."""

    first: int
    second: int
    only_first: int
    only_second: int
    p: float


def ordered(settings: Sequence[Setting], notes: list[str]) -> list[Setting]:
    """Best first by mean validation error; settings without validation after all others."""
    without = [setting for setting in settings if math.isnan(setting.best_val.mean)]
    if len(without) == len(settings):
        notes.append(
            "no run has validation images (dataset.num_val=0): the order below is that of the "
            "test error, good for reading only; choosing a setting by it would be choosing on the "
            "test set"
        )
        return sorted(settings, key=lambda s: math.inf if s.test.n == 0 else s.test.mean)
    if without:
        notes.append(
            f"{len(without)} setting(s) have no validation error and no rank: "
            + ", ".join(setting.label for setting in without[:5])
        )
    judged = {t.judged for s in settings for t in s.trials if not math.isnan(t.best_val)}
    if len(judged) > 1:
        notes.append(
            f"the runs were judged on {len(judged)} different sets of validation images, so their "
            "validation errors, and this ranking, are comparable only roughly"
        )
    ranked = [setting for setting in settings if not math.isnan(setting.best_val.mean)]
    return [*sorted(ranked, key=lambda setting: setting.best_val.mean), *without]


def stand(settings: Sequence[Setting], outcomes: Mapping[str, Outcome]) -> list[Standing]:
    """Every setting compared with the first one, which is the best. outcomes: by run id."""
    best, *others = settings
    raw = [_compare(best, other, outcomes, len(others)) for other in others]
    tested = [each for each in raw if each.p is not None]
    corrected = iter(statistics.holm([each.p for each in tested if each.p is not None]))
    ranked = not math.isnan(best.best_val.mean)
    standings = [Standing(1, best, BEST) if ranked else Standing(None, best, LOWEST)]
    for place, (other, each) in enumerate(zip(others, raw, strict=True), 2):
        rank = None if not ranked or math.isnan(other.best_val.mean) else place
        if each.p is None:
            standings.append(Standing(rank, other, UNKNOWN, why=each.why))
            continue
        p = next(corrected)
        tie = p >= statistics.LEVEL
        verdict = TIE if tie else WORSE if each.difference > 0 else BETTER
        seeds = _seeds(each, len(tested)) if tie else ""
        standings.append(Standing(rank, other, verdict, p, each.difference, seeds, each.why))
    return standings


@dataclass(frozen=True)
class _Comparison:
    p: float | None
    difference: float
    why: str
    paired: statistics.Paired | None = None


def _compare(
    best: Setting, other: Setting, outcomes: Mapping[str, Outcome], comparisons: int
) -> _Comparison:
    refusal = different_tests(best.chosen, other.chosen)
    if refusal:
        return _Comparison(None, math.nan, refusal)
    mine = {trial.seed: trial.test_error for trial in best.trials}
    theirs = {trial.seed: trial.test_error for trial in other.trials}
    differences = [theirs[seed] - mine[seed] for seed in mine if seed and seed in theirs]
    known = [value for value in differences if not math.isnan(value)]
    found = statistics.paired(known, comparisons)
    if found is not None:
        return _Comparison(found.p, found.mean, f"{found.test} over {found.n} seeds", found)
    first, second = outcomes.get(best.chosen.run), outcomes.get(other.chosen.run)
    if first is None or second is None:
        return _Comparison(
            None, math.nan, "fewer than two seeds in common, and no test predictions at hand"
        )
    refusal = different_labels(first, second)
    if refusal:
        return _Comparison(None, math.nan, refusal)
    only_first, only_second = discordant(first, second)
    difference = (only_second - only_first) / len(first.labels)
    p = statistics.mcnemar(only_first, only_second)
    return _Comparison(p, difference, f"McNemar on {len(first.labels):,} images, one seed")


def different_tests(first: Trial, second: Trial) -> str:
    """Why two runs cannot be paired by what is known of their data; empty when they can."""
    if first.data != second.data:
        return f"different data sets ({first.data[:8] or '?'} and {second.data[:8] or '?'})"
    return ""


def different_labels(first: Outcome, second: Outcome) -> str:
    """Why two runs' predictions cannot be paired; empty when they can."""
    if not np.array_equal(first.labels, second.labels):
        return f"different test sets ({len(first.labels):,} and {len(second.labels):,} labels)"
    return ""


def discordant(first: Outcome, second: Outcome) -> tuple[int, int]:
    """How many images the first alone, and the second alone, gets wrong."""
    a, b = first.wrong, second.wrong
    return int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))


def pairs(
    settings: Sequence[Setting], outcomes: Mapping[str, Outcome], notes: list[str]
) -> list[Pair]:
    """McNemar's test for every pair of settings whose chosen runs saw the same test images."""
    found: list[tuple[int, int, int, int]] = []
    refused: dict[str, int] = {}
    for i, one in enumerate(settings):
        for j in range(i + 1, len(settings)):
            first, second = outcomes.get(one.chosen.run), outcomes.get(settings[j].chosen.run)
            if first is None or second is None:
                continue
            refusal = different_tests(one.chosen, settings[j].chosen)
            refusal = refusal or different_labels(first, second)
            if refusal:
                refused[refusal] = refused.get(refusal, 0) + 1
            else:
                found.append((i, j, *discordant(first, second)))
    for why, count in refused.items():
        notes.append(f"{count} pair(s) of settings were not tested on the same images: {why}")
    corrected = statistics.holm([statistics.mcnemar(b, c) for _, _, b, c in found])
    return [Pair(*each, p) for each, p in zip(found, corrected, strict=True)]


def _seeds(comparison: _Comparison, comparisons: int) -> str:
    paired = comparison.paired
    if paired is None:
        return "unknown (one seed)"
    needed = statistics.seeds_needed(paired.mean, paired.deviation, statistics.LEVEL / comparisons)
    if needed is None:
        return f"more than {statistics.MOST_SEEDS:,}"
    return f"about {max(needed, paired.n + 1)}"


def pareto(seconds: Sequence[float], errors: Sequence[float]) -> list[int]:
    """The indices that no other beats in both, in order of time."""
    order = sorted(range(len(seconds)), key=lambda i: (seconds[i], errors[i]))
    front: list[int] = []
    for index in order:
        if not front or errors[index] < errors[front[-1]]:
            front.append(index)
    return front


def confusion(outcome: Outcome, classes: int) -> NDArray[np.int64]:
    """(C, C) counts: row is the truth, column what was said."""
    cells = outcome.labels.astype(np.int64) * classes + outcome.predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def confidently_wrong(outcome: Outcome, count: int) -> NDArray[np.int64]:
    """The rows of the misclassified images, the most confident first."""
    rows = np.flatnonzero(outcome.wrong)
    order = np.argsort(-outcome.confidence[rows], kind="stable")
    return rows[order[:count]].astype(np.int64)
