"""Trials that pause and continue later: `hydra.sweeper.pruner=asha`.

Asynchronous successive halving, in the form that promotes (Li et al., 2020, "A System for Massively
Parallel Hyperparameter Tuning", algorithm 2): every setting is trained to the first rung, an epoch,
and pauses there with a checkpoint. When a slot is free, a setting among the best third at a rung
is trained to the next rung; if there is none, a new setting starts. New settings are proposed from
the rung that each one reached, and its value there.

In addition, a share `FINISHING` of all epochs is trained between the last two rungs. Without it, a
search that has found good settings would start many of them and finish one in nine, chosen by how
fast they learn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.runfolder.objective import Objective

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

ETA = 3  # a rung has this many times the epochs of the one before; its best 1/ETA go on
FINISHING = 0.4
CONTINUES = "continues"  # of a trial: the number of the paused one with the same values
PAUSE = "pause"  # of a trial: the epoch after which it pauses


@dataclass(frozen=True)
class Course:
    """A setting as far as it was trained, from its newest trial.

    values: of its objective by epoch, lower is better. is_paused: it can go on. is_whole: it was
    trained to the end. has_failed: it has no value after those.
    """

    number: int
    params: "dict[str, Any]"
    distributions: "dict[str, BaseDistribution]"
    values: tuple[float, ...]
    is_paused: bool = False
    is_whole: bool = False
    has_failed: bool = False

    def has_reached(self, rung: int) -> bool:
        """Whether it was trained for so many epochs, or ended by itself before."""
        return self.is_whole or len(self.values) >= rung

    def at(self, rung: int) -> float:
        """The lowest value up to an epoch; infinite if it failed before."""
        if self.has_failed and len(self.values) < rung:
            return math.inf
        return min(self.values[:rung], default=math.inf)


def rungs(first: int, epochs: int) -> tuple[int, ...]:
    """The epochs after which trials are compared, evenly on a logarithmic scale, and the last one.

    first: the lowest; the ratio of two is as near to `ETA` as it can be.
    """
    first = max(1, min(first, epochs))
    steps = max(1, round(math.log(epochs / first, ETA)))
    ratio = epochs / first
    return tuple(sorted({round(first * ratio ** (n / steps)) for n in range(steps + 1)}))


def startup(trials: int) -> int:
    """How many settings start at random. trials: the key; twice as many, as they are short."""
    return 2 * trials


def courses(trials: "Sequence[FrozenTrial]", objective: Objective, error: str) -> list[Course]:
    """The settings of a study's trials in the order in which they started.

    error: the attribute of the trials that failed; others that failed were interrupted.
    """
    from optuna.trial import TrialState

    newest: dict[str, FrozenTrial] = {}
    values: dict[str, dict[int, float]] = {}
    for trial in trials:
        if trial.params:  # those that wait have none
            setting = str(trial.params)
            newest[setting] = trial
            values.setdefault(setting, {}).update(trial.intermediate_values)
    return [
        Course(
            trial.number,
            trial.params,
            trial.distributions,
            tuple(objective.order(value) for _, value in sorted(values[setting].items())),
            is_paused=trial.state is TrialState.PRUNED,
            is_whole=trial.state is TrialState.COMPLETE,
            has_failed=error in trial.user_attrs,
        )
        for setting, trial in newest.items()
    ]


def chosen(
    found: Sequence[Course], at: Sequence[int], first: int, *, is_full: bool
) -> tuple[Course, int] | None:
    """The setting to continue, and the epoch at which it pauses again; None: start a new one.

    at: the rungs. first: so many settings start before any goes on out of turn. is_full: no
    further setting starts, so that the best one of each rung goes on, however few they are.
    """
    going_on = _promoted(found, at, is_full=is_full)
    if going_on is not None or is_full or len(found) < first or len(at) < 2:
        return going_on
    epochs = [len(each.values) for each in found]
    finishing = sum(max(0, count - at[-2]) for count in epochs)
    if finishing >= FINISHING * sum(epochs):
        return None
    paused = next((each for each in ranked(found, at) if each.is_paused), None)
    return None if paused is None else (paused, _next(at, len(paused.values)))


def _promoted(
    found: Sequence[Course], at: Sequence[int], *, is_full: bool
) -> tuple[Course, int] | None:
    """One of the best third of a rung, of the highest one first."""
    for before, lower, upper in reversed(list(zip((0, *at), at, at[1:], strict=False))):
        there = [
            each
            for each in found
            if each.has_reached(lower) or (each.has_failed and each.has_reached(before))
        ]
        there.sort(key=lambda each: each.at(lower))
        for each in there[: max(len(there) // ETA, int(is_full))]:
            if each.is_paused and not each.has_reached(upper):
                return each, upper
    return None


def ranked(found: Sequence[Course], at: Sequence[int]) -> list[Course]:
    """The settings that have a value or failed, best first: by the rung reached, then the value."""
    known = [each for each in found if each.values or each.has_failed]

    def key(each: Course) -> tuple[bool, int, float]:
        rung = max((rung for rung in at if each.has_reached(rung)), default=0)
        return each.has_failed, -rung, each.at(max(at))

    return sorted(known, key=key)


def _next(at: Sequence[int], epochs: int) -> int:
    """The first rung after so many epochs."""
    return next((rung for rung in at if rung > epochs), at[-1])
