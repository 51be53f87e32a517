"""Select and describe the figures of a search."""

from collections.abc import Sequence

from harness.analysis import search_charts as charts
from harness.analysis.importance import FEWEST, REPEATS, Importance, importances
from harness.analysis.page import Figure
from harness.analysis.settings import natural, number, rounded
from harness.analysis.trials import End, Trial, incumbents
from harness.runfolder.objective import Objective

SLICES = 6  # most keys


def figures(trials: Sequence[Trial], objective: Objective) -> list[Figure]:
    """The history of a search, the epochs of its trials, the importance of its keys, and slices."""
    if len(trials) < 2:
        return []
    found = importances(
        {key: [trial.values[key] for trial in trials] for key in trials[0].values},
        [objective.order(trial.value) for trial in trials],
    )
    keys = [each.key for each in found] or list(trials[0].values)
    label = f"{objective.title}{objective.unit}"
    return [
        _history(trials, objective, label),
        _ends(trials),
        *([_importances(found, trials)] if found else []),
        *(_slice(trials, key, objective, label) for key in keys[:SLICES]),
    ]


def _history(trials: Sequence[Trial], objective: Objective, label: str) -> Figure:
    factor = objective.factor
    points = {
        end.value: [(trial.spent, factor * trial.value) for trial in trials if trial.end is end]
        for end in End
    }
    best = [(trial.spent, factor * trial.value) for trial in incumbents(trials, objective)]
    if best:
        best.append((trials[-1].spent, best[-1][1]))
    counts = ", ".join(f"{len(rows)} {name}" for name, rows in points.items() if rows)
    caption = f"{counts}. A trial that was ended early is shown with what it had reached."
    if len(trials) < FEWEST:
        caption += f" How important each key is, fewer than {FEWEST} trials cannot tell."
    return Figure("search", "The search", charts.history(points, best, label), caption)


def _ends(trials: Sequence[Trial]) -> Figure:
    bars = {
        end.value: [
            (place, trial.epochs) for place, trial in enumerate(trials, 1) if trial.end is end
        ]
        for end in End
    }
    names = list(bars)
    shown = {name: rows for name, rows in bars.items() if rows}
    caption = f"{sum(trial.epochs for trial in trials):,} epochs in all, over all seeds."
    pauses = [(place, epoch) for place, each in enumerate(trials, 1) for epoch in each.pauses]
    went_on = sum(any(epoch < each.epochs for epoch in each.pauses) for each in trials)
    if pauses:
        caption += f" A white line is where a trial paused; {went_on} trials went on later."
    return Figure("search", "Epochs of each trial", charts.ends(shown, names, pauses), caption)


def _importances(found: Sequence[Importance], trials: Sequence[Trial]) -> Figure:
    caption = (
        f"What each key alone explains of the order of {len(trials)} trials, less what chance "
        f"would; the lines span 90 % of {REPEATS:,} estimates over half of the trials. What keys "
        "do together is not in it, and where the search tried few other values, a key looks less "
        "important."
    )
    early = sum(trial.end in (End.PRUNED, End.PAUSED, End.BROKEN) for trial in trials)
    if early:
        caption += (
            f" {early} of them ended before their last epoch and count with what they had reached, "
            "so that a key by which settings learn faster looks more important."
        )
    return Figure("search", "Importance of the keys", charts.importances(found), caption)


def _slice(trials: Sequence[Trial], key: str, objective: Objective, label: str) -> Figure:
    texts = {trial.values[key] for trial in trials}
    is_number = all(number(text) is not None for text in texts) and len(texts) > 2
    values = sorted(texts, key=natural)
    shown = rounded(values)
    points = {
        end.value: [
            (
                float(trial.values[key]) if is_number else float(values.index(trial.values[key])),
                objective.factor * trial.value,
            )
            for trial in trials
            if trial.end is end
        ]
        for end in End
    }
    chart = (
        charts.numbers(key, points, label)
        if is_number
        else charts.choices(key, [shown[value] for value in values], points, label)
    )
    title = f"{objective.heading(objective.name)} by {key}"
    return Figure("swept", title, chart, "Each point is a trial; the other keys vary as well.")
