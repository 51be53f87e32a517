"""Choose the selected runs to compare: finished, on one data set, with one objective.

Notes list the runs that were left out and anything that makes the comparison less certain.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TypeVar

from harness.runfolder import data_sets
from harness.runfolder.kinds import DATASET, KINDS, SCRATCH, kind_of
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.run import ACCEPTED, SOURCE
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Recorded
from harness.tracking.selection import Selection

Kind = TypeVar("Kind", bound=Hashable)
FEW, MOST_METRICS = 4, 8  # names of runs, and of metrics, that a line lists


def of_one_task(selection: Selection, notes: list[str]) -> Selection:
    """Only the selected runs on the data set that most finished runs use.

    Its name, source and number of test examples identify a data set, see `data_sets.named`; another
    `dataset.label` makes it another task. Errors on different tasks are not ranked together; a note
    says which runs were left out.
    """
    about = [{**run.dataset, "name": _task(run)} for run in selection.recorded]
    names = zip(selection.recorded, data_sets.named(about), strict=True)
    task = {run.location: name for run, name in names}
    kept, others = _most(selection, lambda run: task[run.location])
    for name, of_task in others:
        notes.append(
            f"{len(of_task)} run(s) on {name or 'an unknown data set'} were left out: runs on "
            f"different data sets are not ranked together, and these are on "
            f"{task[kept[0].location] or 'an unknown one'}; for the others: "
            + ", ".join(_command(selection, each) for each in _conditions(of_task, kept[0]))
        )
    return replace(selection, recorded=kept)


def _conditions(runs: Sequence[Recorded], other: Recorded) -> list[str]:
    """Filters that select the runs on one data set but not `other`, a run on another data set."""
    params = runs[0].params
    if _task(runs[0]) == _task(other):
        digests = dict.fromkeys(run.tags.get("data.sha256", "") for run in runs)
        return [f"tags.data.sha256 = '{digest}'" for digest in digests]
    label = params.get("dataset.label", "None")
    if label != "None":
        return [f"params.dataset.label = '{label}'"]
    return [f"params.dataset.name = '{params.get('dataset.name', _task(runs[0]))}'"]


def of_one_named_data_set(selection: Selection, notes: list[str]) -> Selection:
    """Like `of_one_task`, for runs of any program: compares the logged names of data sets.

    Runs that logged no data set are kept.
    """
    known = [run for run in selection.recorded if run.dataset.get("name")]
    kept, others = _most(replace(selection, recorded=known), lambda run: str(run.dataset["name"]))
    left = {run.location for _, of_other in others for run in of_other}
    left |= {run.location for run in known} - {run.location for run in kept}
    for name, of_other in others:
        notes.append(
            f"{len(of_other)} run(s) on {name} were left out: runs on different data sets are not "
            f"ranked together, and most are on {kept[0].dataset['name']}; to compare the others, "
            f"add the filter \"datasets.name = '{name.split(', ')[0]}'\""
        )
    rest = [run for run in selection.recorded if run.location not in left]
    return replace(selection, recorded=rest)


def of_one_objective(selection: Selection, notes: list[str]) -> Selection:
    """Only the selected runs with the objective that most finished runs have.

    Runs with different objectives are not ranked together; a note says which were left out.
    """
    kept, others = _most(selection, _objective)
    for other, of_other in others:
        notes.append(
            f"{len(of_other)} run(s) with objective={other} were left out: runs of different "
            f"objectives are not ranked together, and these have objective={_objective(kept[0])}; "
            "for the others: " + _command(selection, f"params.objective = '{other}'")
        )
    return replace(selection, recorded=kept)


def _task(run: Recorded) -> str:
    return str(run.dataset.get("name") or run.params.get("dataset.name", ""))


def _objective(run: Recorded) -> Objective:
    return Objective.of(run.params)


def _most(
    selection: Selection, of: Callable[[Recorded], Kind]
) -> tuple[list[Recorded], list[tuple[Kind, list[Recorded]]]]:
    """The runs of the most common kind among finished runs, and the runs of each other kind.

    If any run is finished, only finished runs of the other kinds are returned.
    """
    done = [run for run in selection.recorded if run.status is RunStatus.FINISHED]
    counted = done or selection.recorded
    counts = Counter(map(of, counted)).most_common()
    if len(counts) < 2:
        return selection.recorded, []
    (most, _), *others = counts
    kept = [run for run in selection.recorded if of(run) == most]
    return kept, [(kind, [run for run in counted if of(run) == kind]) for kind, _ in others]


def _command(selection: Selection, condition: str) -> str:
    """The command that compares the selected runs that meet a condition."""
    if selection.sweep:
        condition += f" and tags.sweep LIKE '%{selection.sweep}%'"
    return f'python -m harness compare "{condition}"'


def finished(selection: Selection, notes: list[str]) -> list[Recorded]:
    """The runs that can be compared. Raises `ValueError` if there are none.

    selection: runs with one objective.
    """
    finished = only_finished(selection, notes)
    objective = Objective.of(finished[0].params) if finished else DEFAULT
    validation, test = objective.metric, objective.test_key
    known = [run for run in finished if validation in run.final or test in run.final]
    if len(known) < len(finished):
        notes.append(
            f"{len(finished) - len(known)} finished run(s) have neither {validation} nor {test} "
            "and were left out"
        )
    if not known:
        why = notes[-1] if notes else "no run has metrics"
        raise ValueError(f"{selection.title}: nothing to compare: {why}{_other_metrics(finished)}")
    untested = [run.name for run in known if test not in run.final]
    if untested:
        notes.append(f"{len(untested)} run(s) have no {test}: {untested[0]}")
    doubts = [(_task(run), doubt) for run in known for doubt in run.dataset.get("doubts", ())]
    notes.extend(f"data set {name}: {doubt}" for name, doubt in dict.fromkeys(doubts))
    _note_source(selection, known, notes)
    return known


def _note_source(selection: Selection, runs: Sequence[Recorded], notes: list[str]) -> None:
    """Note the runs that were trained with different source code than the rest."""
    if others := accepted(selection, runs):
        notes.append(
            f"{len(others)} run(s) were trained with other source than the rest and accepted with "
            f"accept=source: {first([run.name for run in others], FEW)}"
        )
    of_source = Counter(
        run.tags.get(SOURCE, "") for run in runs if run.params.get("trainer.name", "") == SCRATCH
    )
    if len(of_source) > 1:
        newest = next(tag for run in reversed(runs) if (tag := run.tags.get(SOURCE, "")))
        notes.append(
            f"{of_source.total() - of_source[newest]} of {of_source.total()} runs were trained "
            "with other source of this package than the newest, or do not say with which; the "
            "settings are not separated by it"
        )


def accepted(selection: Selection, runs: Sequence[Recorded]) -> list[Recorded]:
    """The runs with other source code that the selected sweep accepted by `accept=source`."""
    sweep = selection.sweep
    return [run for run in runs if sweep and sweep in run.tags.get(ACCEPTED, "").split(",")]


def only_finished(selection: Selection, notes: list[str]) -> list[Recorded]:
    """The finished runs, which may be none; a note counts the others.

    Raises `ValueError` if nothing was selected.
    """
    if not selection.recorded:
        keys = re.findall(r"params\.[`\"]?(\w+)[`\"]?\s*[!=<>LlIi]", selection.title)
        named = [kind_of(key).key for key in keys if key in (*KINDS, DATASET.name)]
        hints = [key for key in named if key not in keys]
        hint = f"; the key is params.{hints[0]}" if hints else ""
        raise ValueError(f"{selection.title}: there are no runs to compare{hint}")
    finished = [run for run in selection.recorded if run.status is RunStatus.FINISHED]
    left = Counter(run.how_pruned.upper() or run.status for run in selection.recorded)
    del left[RunStatus.FINISHED]
    if left:
        names = [run.name for run in selection.recorded if run.status is not RunStatus.FINISHED]
        counts = ", ".join(f"{count} {status}" for status, count in left.items())
        notes.append(f"left out because not finished: {counts} ({first(names, FEW)})")
    return finished


def _other_metrics(runs: Sequence[Recorded]) -> str:
    """The option that compares runs of another program, with metrics that they have."""
    names = sorted(dict.fromkeys(key for run in runs for key in run.final))
    if not names:
        return ""
    return (
        "; runs of another program are compared by --metric NAME, of which they have "
        f"{first(names, MOST_METRICS)}"
    )


def first(names: Sequence[str], most: int) -> str:
    """The first names of a line, with "..." for more."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
