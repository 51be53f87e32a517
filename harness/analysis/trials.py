"""The settings that a search tried, in the order in which they ended, also those it ended early."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from harness.analysis import comparable, evidence
from harness.analysis.seed_run import SeedRun
from harness.analysis.settings import Setting, group
from harness.runfolder.history import PAUSED_AFTER
from harness.runfolder.objective import Objective
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Recorded
from harness.tracking.selection import Selection


class End(StrEnum):
    """How a trial ended.

    ENDED: it could no longer win, so it has fewer seeds. BROKEN: one of its runs failed, was
    killed, or is still training.
    """

    WHOLE = "finished"
    ENDED = "ended with fewer seeds"
    PRUNED = "pruned"
    PAUSED = "paused"
    BROKEN = "not finished"


@dataclass(frozen=True)
class Trial:
    """A setting that a search tried.

    values: those of the searched keys, as text. value: the objective's mean over its seeds; a run
    that was ended early counts as far as it got. epochs: those of its runs. spent: the epochs of
    the whole search when it ended. pauses: the epochs after which it paused.
    """

    values: Mapping[str, str]
    value: float
    epochs: int
    spent: int
    end: End
    pauses: tuple[int, ...] = ()


def trials(selection: Selection, objective: Objective) -> list[Trial]:
    """The trials of a search that have a value, in the order in which they ended."""
    metric = objective.metric
    of_task = comparable.of_one_objective(comparable.of_one_task(selection, []), [])
    selection.source.add_curves(of_task.recorded, (metric,))
    runs = {run.run: run for run in of_task.recorded}
    spent, total = {}, 0
    for run in sorted(runs.values(), key=_ended):
        if np.isfinite(run.curves.get(metric, ())).any():
            total += len(run.curves[metric])
            spent[run.run] = total
    settings = group(evidence.seed_runs(selection, runs.values()), [])
    most = max((len(setting.runs) for setting in settings), default=0)
    found = [
        _trial(setting, runs, spent, most)
        for setting in settings
        if any(run.run in spent for run in setting.runs)
    ]
    return sorted(found, key=lambda trial: trial.spent)


def incumbents(of: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The trials that were the best so far when they ended; only whole ones can be."""
    best: list[Trial] = []
    for trial in of:
        if trial.end is End.WHOLE and (
            not best or objective.order(trial.value) < objective.order(best[-1].value)
        ):
            best.append(trial)
    return best


def _trial(
    setting: Setting, runs: Mapping[str, Recorded], spent: Mapping[str, int], most: int
) -> Trial:
    """spent: of the runs that have a value."""
    known = [run for run in setting.runs if run.run in spent]
    return Trial(
        values=setting.values,
        value=float(np.mean([_value(run, runs[run.run]) for run in known])),
        epochs=sum(len(run.curves[setting.objective.metric]) for run in known),
        spent=max(spent[run.run] for run in known),
        end=_end([runs[run.run] for run in setting.runs], most),
        pauses=_pauses(setting, runs),
    )


def _pauses(setting: Setting, runs: Mapping[str, Recorded]) -> tuple[int, ...]:
    """The epochs after which a setting paused, each once; only its first seed can."""
    texts = [runs[run.run].tags.get(PAUSED_AFTER, "") for run in setting.runs]
    return tuple(sorted({int(each) for each in ",".join(texts).split(",") if each.isdecimal()}))


def _value(run: SeedRun, recorded: Recorded) -> float:
    """The objective of a run; of one that is not finished and judged by its last epoch, so far."""
    is_over = recorded.status is RunStatus.FINISHED
    return run.best_val if is_over or not run.judges_last else run.last_val


def _end(runs: Sequence[Recorded], most: int) -> End:
    for end in (End.PAUSED, End.PRUNED):
        if any(run.how_pruned == end for run in runs):
            return end
    if any(run.status is not RunStatus.FINISHED for run in runs):
        return End.BROKEN
    return End.WHOLE if len(runs) == most else End.ENDED


def _ended(run: Recorded) -> tuple[int, str]:
    return run.ended_ms or run.created_ms or 0, run.run
