"""Which setting is better, and whether the difference is real.

Settings are ranked by the mean of their objective at the judged epoch. The differences from the
best are tested on the test set, which had no part in the ranking: over the seeds that both settings
have, or with one seed over the test examples.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.analysis import statistics
from harness.analysis.outcome import Outcome, different_labels, discordant
from harness.analysis.seed_run import SeedRun
from harness.analysis.settings import Setting
from harness.runfolder.cost import front

BEST, LOWEST, HIGHEST, TIE = "best", "lowest on test", "highest on test", "tie"
FIRST = (BEST, LOWEST, HIGHEST)  # the verdicts of the setting ranked first
WORSE, BETTER, UNKNOWN = "worse", "better on test", "not compared"
ENDED = "ended"  # it cannot be the best, so it got no more seeds and is not tested
NETWORKS = "McNemar"  # the test of two networks
BY_RESULTS = "seeds were added by results"  # why there is no test with a fixed number of them
SHOWN = 12  # settings whose curves are drawn and whose predictions are compared

BEYOND = f"only the first {SHOWN} are tested on examples"


@dataclass(frozen=True)
class Standing:
    """A setting compared with the best one.

    rank: from 1 on, the same for equal settings, None without validation. p: Holm-corrected over
    all comparisons with the best. difference: from the best, in the test metric. seeds: how many
    seeds would tell it from the best, in words. why: which test was used, or why none was.
    on_front: see the function `on_front`.
    """

    rank: int | None
    setting: Setting
    verdict: str
    p: float | None = None
    difference: float | None = None
    seeds: str = ""
    why: str = ""
    on_front: bool = False

    @property
    def is_of_networks(self) -> bool:
        """Whether the test compared two networks, not two settings over seeds."""
        return self.why.startswith(NETWORKS)


@dataclass(frozen=True)
class Pair:
    """The chosen runs of two settings on the same test examples.

    first, second: indices of the settings. only_first, only_second: number of examples that one run
    alone misclassifies. p: McNemar's, corrected by Holm over all pairs.
    """

    first: int
    second: int
    only_first: int
    only_second: int
    p: float


def ordered(settings: Sequence[Setting], notes: list[str]) -> list[Setting]:
    """The settings by the mean of their objective, best first; those without it are last.

    Among equal settings, the one with the oldest run is first.
    """
    objective = settings[0].objective
    without = [setting for setting in settings if math.isnan(setting.best_val.mean)]
    if len(without) == len(settings):
        notes.append(
            "no run has validation examples (dataset.num_val=0): the settings are in the order of "
            f"their {objective.test_title}, for reading only; choosing a setting by it would be "
            "choosing on the test set"
        )
        return _sorted(settings)
    if without:
        notes.append(
            f"{len(without)} setting(s) have no {objective.title} and no rank: "
            + ", ".join(setting.label for setting in without[:5])
        )
    notes += _unequal(settings)
    if objective.part == "train":
        notes.append(
            f"the settings are ranked by {objective.title}, which says how well they fit the "
            "examples that they were trained on, not how well they do on others"
        )
        return [*_sorted(_known(settings)), *without]
    sets = {run.validation for s in settings for run in s.runs if not math.isnan(run.best_val)}
    if len(sets) > 1:
        notes.append(
            f"the runs have {len(sets)} different sets of validation examples, so their validation "
            "errors, and this ranking, are only roughly comparable"
        )
    return [*_sorted(_known(settings)), *without]


def _unequal(settings: Sequence[Setting]) -> list[str]:
    """Why values of the ranking metric cannot be compared although they share a name."""
    objective, runs = settings[0].objective, [run for s in settings for run in s.runs]
    notes = []
    if objective.by_epoch and len({run.judges_last for run in runs}) > 1:
        notes.append(
            f"runs with weights=best have the {objective.best_word} {objective.title} of all "
            "epochs, which is never worse than that of the last: they are ranked above equal runs "
            f"with weights=last; the {objective.test_title} has no such advantage"
        )
    losses = {
        tuple(each for each in run.settings.items() if objective.depends_on(each[0]))
        for run in runs
    }
    if len(losses) > 1:
        notes.append(
            f"{objective.title} values of different losses are not comparable, so this ranking "
            "does not show which setting is better; choose another metric with objective=METRIC"
        )
    return notes


def whole_first(settings: Sequence[Setting], notes: list[str]) -> list[Setting]:
    """The settings with the most seeds, then the others, which were ended: they could not win."""
    most = max(setting.best_val.n for setting in settings)
    whole = [setting for setting in settings if setting.best_val.n == most]
    others = [setting for setting in settings if setting.best_val.n < most]
    if others:
        notes.append(
            f"{len(others)} setting(s) with fewer than {most} seeds are after those with all: they "
            "could no longer win, or a run failed or is not trained yet"
        )
    return [*whole, *others]


def _known(settings: Sequence[Setting]) -> list[Setting]:
    return [setting for setting in settings if not math.isnan(setting.best_val.mean)]


def judged(setting: Setting) -> float:
    """The mean by which a setting is ranked: of the test metric where there is no validation."""
    mean = setting.best_val.mean
    return setting.test.mean if math.isnan(mean) else mean


def equal(first: Setting, second: Setting) -> bool:
    """Whether neither of two settings is ranked above the other."""
    if math.isnan(first.best_val.mean) != math.isnan(second.best_val.mean):
        return False
    return first.objective.are_equal(judged(first), judged(second))


def _sorted(settings: Sequence[Setting]) -> list[Setting]:
    """The settings, best first; if they differ by rounding only, the oldest comes first."""
    by_value = sorted(settings, key=lambda setting: setting.objective.order(judged(setting)))
    places = _places(by_value)
    pairs = sorted(zip(places, by_value, strict=True), key=lambda each: (each[0], each[1].number))
    return [setting for _, setting in pairs]


def _places(settings: Sequence[Setting]) -> list[int]:
    """The place of each of the settings, best first: from 1 on, the same for equal ones."""
    places: list[int] = []
    for number, setting in enumerate(settings):
        is_equal = number > 0 and equal(settings[number - 1], setting)
        places.append(places[-1] if is_equal else number + 1)
    return places


def stand(settings: Sequence[Setting], outcomes: Mapping[str, Outcome]) -> list[Standing]:
    """Compare every setting with the first one, which is the best. outcomes: by run id."""
    best, *others = settings
    raw = [
        _compare(best, other, outcomes, len(others), is_shown=place < SHOWN)
        for place, other in enumerate(others, start=1)
    ]
    tested = [each for each in raw if each.p is not None]
    corrected = iter(statistics.holm([each.p for each in tested if each.p is not None]))
    ranked = not math.isnan(best.best_val.mean)
    is_max = best.objective.tested.is_max
    unranked = Standing(None, best, HIGHEST if is_max else LOWEST)
    standings = [Standing(1, best, BEST) if ranked else unranked]
    _, *places = _places(settings)
    for place, other, each in zip(places, others, raw, strict=True):
        rank = None if not ranked or math.isnan(other.best_val.mean) else place
        if each.p is None:
            verdict = ENDED if other.is_ended else UNKNOWN
            standings.append(Standing(rank, other, verdict, why=each.why))
            continue
        p = next(corrected)
        tie = p >= statistics.LEVEL
        is_worse = each.difference < 0 if is_max else each.difference > 0
        verdict = TIE if tie else WORSE if is_worse else BETTER
        seeds = _seeds(each, len(tested)) if tie else ""
        standings.append(Standing(rank, other, verdict, p, each.difference, seeds, each.why))
    fronts = zip(standings, on_front(settings), strict=True)
    return [replace(standing, on_front=is_on) for standing, is_on in fronts]


def are_untested(standings: Sequence[Standing]) -> bool:
    """Whether nothing was tested because seeds were added by results."""
    best, *others = standings
    return bool(others) and (best.setting.is_raced or all(each.setting.is_raced for each in others))


@dataclass(frozen=True)
class _Difference:
    p: float | None
    difference: float
    why: str
    paired: statistics.Paired | None = None
    unpaired: str = "one seed"  # why there is no pairing over seeds


def _compare(
    best: Setting, other: Setting, outcomes: Mapping[str, Outcome], comparisons: int, *,
    is_shown: bool,
) -> _Difference:  # fmt: skip
    """Compare two settings. is_shown: whether the second one's predictions were read."""
    if best.is_raced or other.is_raced or other.is_ended:
        return _Difference(None, math.nan, BY_RESULTS)
    refusal = different_tests(best.chosen, other.chosen)
    if refusal:
        return _Difference(None, math.nan, refusal)
    of_best = {run.seed: run.test for run in best.runs}
    of_other = {run.seed: run.test for run in other.runs}
    differences = [of_other[seed] - of_best[seed] for seed in of_best if seed and seed in of_other]
    known = [value for value in differences if not math.isnan(value)]
    paired = statistics.paired(known, comparisons)
    unpaired = "one seed"
    if max(len(of_best), len(of_other)) > 1:
        unpaired = f"{'one' if known else 'no'} seed in common"
    if paired is not None:
        return _Difference(paired.p, paired.mean, f"{paired.test} over {paired.n} seeds", paired)
    objective = best.objective
    if not objective.tested.counts_examples:
        why = "fewer than two seeds in common"
        why += "; with one seed, only errors are tested" if objective.by_epoch else ""
        return _Difference(None, math.nan, why)
    first, second = outcomes.get(best.chosen.run), outcomes.get(other.chosen.run)
    if first is not None and not is_shown:
        return _Difference(None, math.nan, BEYOND)
    if first is None or second is None:
        return _Difference(
            None, math.nan, "fewer than two seeds in common, and no test predictions available"
        )
    refusal = different_labels(first, second)
    if refusal:
        return _Difference(None, math.nan, refusal)
    only_first, only_second = discordant(first, second)
    difference = (only_second - only_first) / len(first.labels)  # in error
    if objective.tested.name.endswith("accuracy"):
        difference = -difference
    p = statistics.mcnemar(only_first, only_second)
    why = f"{NETWORKS} on {len(first.labels):,} examples, one seed"
    return _Difference(p, difference, why, unpaired=unpaired)


def different_tests(first: SeedRun, second: SeedRun) -> str:
    """Why two runs cannot be paired, by the digests of their data sets; empty if they can."""
    if first.data != second.data:
        one, other = sorted(digest[:8] or "?" for digest in (first.data, second.data))
        return f"different data sets ({one} and {other})"
    return ""


def pairs(
    settings: Sequence[Setting], outcomes: Mapping[str, Outcome], notes: list[str]
) -> list[Pair]:
    """McNemar's test for every pair of settings whose chosen runs have the same test examples.

    Not for settings whose seeds were added by results, and for those that were ended.
    """
    untested = {i for i, each in enumerate(settings) if each.is_raced or each.is_ended}
    counts: list[tuple[int, int, int, int]] = []
    refused: dict[str, int] = {}
    for i, one in enumerate(settings):
        for j in range(i + 1, len(settings)):
            first, second = outcomes.get(one.chosen.run), outcomes.get(settings[j].chosen.run)
            if first is None or second is None or untested & {i, j}:
                continue
            refusal = different_tests(one.chosen, settings[j].chosen)
            refusal = refusal or different_labels(first, second)
            if refusal:
                refused[refusal] = refused.get(refusal, 0) + 1
            else:
                counts.append((i, j, *discordant(first, second)))
    for why, count in refused.items():
        notes.append(f"{count} pair(s) of settings were not tested on the same examples: {why}")
    corrected = statistics.holm([statistics.mcnemar(b, c) for _, _, b, c in counts])
    return [Pair(*each, p) for each, p in zip(counts, corrected, strict=True)]


def _seeds(difference: _Difference, comparisons: int) -> str:
    paired = difference.paired
    if paired is None:
        return f"unknown ({difference.unpaired})"
    needed = statistics.seeds_needed(paired.mean, paired.deviation, statistics.LEVEL / comparisons)
    if needed is None:
        return f"more than {statistics.MOST_SEEDS:,}"
    return f"about {max(needed, paired.n + 1)}"


def on_front(settings: Sequence[Setting]) -> list[bool]:
    """Whether each setting is on the Pareto front of its objective and its costs.

    On the front, no other setting is at least as good in all means over seeds and better in one.
    Settings with an unknown mean and ended settings are not on it; without costs, none is.
    """
    costs = settings[0].costs
    if not costs:
        return [False] * len(settings)
    objective = settings[0].objective
    points = [
        (
            objective.order(None if each.is_ended else judged(each)),
            *(cost.order(each.cost(cost).mean) for cost in costs),
        )
        for each in settings
    ]
    return front(points)


def pareto(costs: Sequence[float], errors: Sequence[float]) -> list[int]:
    """The indices of the Pareto front, points that no other beats in both, in order of costs.

    costs, errors: any two quantities; lower is better.
    """
    on_it = front(list(zip(costs, errors, strict=True)))
    return sorted(itertools.compress(range(len(costs)), on_it), key=lambda index: costs[index])
