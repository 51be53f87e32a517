"""Trials that pause and continue later: `hydra.sweeper.pruner=asha`.

This is asynchronous successive halving with promotion (Li et al., 2020, "A System for Massively
Parallel Hyperparameter Tuning", algorithm 2). Every setting is trained to the first rung, an epoch,
and pauses there with a checkpoint. When a slot is free, a setting among the best third of those
that reached a rung is trained to the next one; if there is none, a new setting starts. New settings
are proposed from how far each earlier one got and from its value there.

One thing is added: the share `FINISHING` of all epochs is trained between the last two rungs.
Without it, a search that has found the good settings would start many of them and finish only one
in nine, chosen by how fast they learn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.runfolder.objective import Objective

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

ETA = 3  # a rung has this many times the epochs of the one before; its best 1/ETA continue
FINISHING = 0.4
CONTINUES = "continues"  # attribute of a trial: the number of the paused one with the same values
PAUSE = "pause"  # attribute of a trial: the epoch after which it pauses


@dataclass(frozen=True)
class Course:
    """The training of a setting so far, by its newest trial.

    values: of its objective by epoch, lower is better. is_paused: it can continue. is_whole: it was
    trained to the end. has_failed: it failed after these values.
    """

    number: int
    params: "dict[str, Any]"
    distributions: "dict[str, BaseDistribution]"
    values: tuple[float, ...]
    is_paused: bool = False
    is_whole: bool = False
    has_failed: bool = False

    def has_reached(self, rung: int) -> bool:
        """Whether it was trained for `rung` epochs, or finished in fewer."""
        return self.is_whole or len(self.values) >= rung

    def at(self, rung: int) -> float:
        """The lowest value up to epoch `rung`; infinite if it failed before that."""
        if self.has_failed and len(self.values) < rung:
            return math.inf
        return min(self.values[:rung], default=math.inf)


def rungs(first: int, epochs: int) -> tuple[int, ...]:
    """The epochs after which trials are compared, evenly on a logarithmic scale up to the last one.

    first: the lowest. The ratio of neighbors is as near to `ETA` as possible.
    """
    first = max(1, min(first, epochs))
    steps = max(1, round(math.log(epochs / first, ETA)))
    ratio = epochs / first
    return tuple(sorted({round(first * ratio ** (n / steps)) for n in range(steps + 1)}))


def startup(trials: int) -> int:
    """How many settings start at random: twice the key `startup_trials`, because they are short."""
    return 2 * trials


def courses(trials: "Sequence[FrozenTrial]", objective: Objective, error: str) -> list[Course]:
    """The settings of a study's trials in the order in which they started.

    error: the attribute of failed trials; trials in state FAIL without it were interrupted.
    """
    from optuna.trial import TrialState

    newest: dict[str, FrozenTrial] = {}
    values: dict[str, dict[int, float]] = {}
    for trial in trials:
        if trial.params:  # waiting trials have none
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

    at: the rungs. first: this many settings start before one continues only for `FINISHING`.
    is_full: no further setting starts, so the best one of each rung continues, however few.
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
    """A paused setting among the best third of a rung, and its next rung; highest rung first."""
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
    """The first rung above `epochs`; the last one if there is none."""
    return next((rung for rung in at if rung > epochs), at[-1])
