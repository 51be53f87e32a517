"""Read from recorded runs what a comparison needs: values, predictions, weights and images.

Anything missing or damaged becomes a note, and the rest is compared.
"""

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.analysis.outcome import Outcome
from harness.analysis.seed_run import SeedRun
from harness.data.atomic import explained
from harness.runfolder import checkpoint, data_sets
from harness.runfolder.cost import Cost
from harness.runfolder.history import PAUSED_AFTER, PRUNED
from harness.runfolder.keys import determines_result
from harness.runfolder.kinds import DATASET, KINDS, SCRATCH, kind_of
from harness.runfolder.objective import DEFAULT, KEY, Objective
from harness.runfolder.run import ACCEPTED, PREDICTIONS, SOURCE, WEIGHTS
from harness.runfolder.selection import Folders, listed
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Missing, Recorded, Source
from harness.tracking.selection import Selection

Kind = TypeVar("Kind", bound=Hashable)
MOST_NAMES = 8  # metrics that an error lists
AS_TYPED = {"True": "true", "False": "false", "None": "null"}  # by the text that a store has


def of_one_task(selection: Selection, notes: list[str]) -> Selection:
    """The selection without the runs of other data sets than that of most finished runs.

    A data set is known by its name, where it is from and how many test examples it has, see
    `data_sets.named`: with another `dataset.label`, it is another task. Errors on different tasks
    are not ranked together; a note says which runs were left out.
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
    """Filters that select runs of one data set, and not the other run, which is of another one."""
    params = runs[0].params
    if _task(runs[0]) == _task(other):
        digests = dict.fromkeys(run.tags.get("data.sha256", "") for run in runs)
        return [f"tags.data.sha256 = '{digest}'" for digest in digests]
    label = params.get("dataset.label", "None")
    if label != "None":
        return [f"params.dataset.label = '{label}'"]
    return [f"params.dataset.name = '{params.get('dataset.name', _task(runs[0]))}'"]


def of_one_named_data_set(selection: Selection, notes: list[str]) -> Selection:
    """As `of_one_task`, for the runs of any program: by the names of the data sets they logged.

    Runs that logged none are kept.
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
    """The selection without the runs of other objectives than that of most finished runs.

    Runs of different objectives are not ranked together; a note says which were left out.
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
    """The runs of the kind that most finished runs are of, and those of each other kind.

    Of the others, only the finished ones, if any run is finished.
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
    """The command that compares the runs of a selection that fulfill a condition."""
    if selection.title.startswith("sweep "):
        condition += f" and tags.sweep LIKE '%{selection.name}%'"
    return f'python -m harness compare "{condition}"'


def finished(selection: Selection, notes: list[str]) -> list[Recorded]:
    """The runs that can be compared. Raises `ValueError` if there are none.

    selection: of runs of one objective.
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
    sweep = selection.title.removeprefix("sweep ")
    others = [run.name for run in known if sweep in run.tags.get(ACCEPTED, "").split(",")]
    if others:
        more = ", ..." if len(others) > 4 else ""
        notes.append(
            f"{len(others)} run(s) were trained by other source than the rest and accepted with "
            f"accept=source: {', '.join(others[:4])}{more}"
        )
    doubts = [(_task(run), doubt) for run in known for doubt in run.dataset.get("doubts", ())]
    notes.extend(f"data set {name}: {doubt}" for name, doubt in dict.fromkeys(doubts))
    of_source = Counter(
        run.tags.get(SOURCE, "") for run in known if run.params.get("trainer.name", "") == SCRATCH
    )
    if len(of_source) > 1:
        newest = next(tag for run in reversed(known) if (tag := run.tags.get(SOURCE, "")))
        notes.append(
            f"{of_source.total() - of_source[newest]} of {of_source.total()} runs were trained by "
            "other source of this package than the newest, or do not say by which; the settings "
            "are not separated by it"
        )
    return known


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
    left = Counter(map(_ending, selection.recorded))
    del left[RunStatus.FINISHED]
    if left:
        names = [run.name for run in selection.recorded if run.status is not RunStatus.FINISHED]
        counts = ", ".join(f"{count} {status}" for status, count in left.items())
        more = ", ..." if len(names) > 4 else ""
        notes.append(f"left out because not finished: {counts} ({', '.join(names[:4])}{more})")
    return finished


def _ending(run: Recorded) -> str:
    """The status of a run; PRUNED if its search ended it early, PAUSED if it may go on."""
    if run.status is not RunStatus.KILLED or run.tags.get(PRUNED) != "true":
        return run.status
    return "PAUSED" if PAUSED_AFTER in run.tags else "PRUNED"


def _other_metrics(runs: Sequence[Recorded]) -> str:
    """The option that compares runs of another program, with metrics that they have."""
    names = sorted(dict.fromkeys(key for run in runs for key in run.final))
    if not names:
        return ""
    more = ", ..." if len(names) > MOST_NAMES else ""
    return (
        "; runs of another program are compared by --metric NAME, of which they have "
        f"{', '.join(names[:MOST_NAMES])}{more}"
    )


def seed_runs(selection: Selection, finished: Iterable[Recorded]) -> list[SeedRun]:
    """The values of the finished runs of a selection.

    In a sweep that accepted runs of other source, by `accept=source`, source separates no settings.
    """
    runs, sweep = list(finished), selection.title.removeprefix("sweep ")
    costs = [Cost.parse(each) for each in selection.costs]
    selection.source.add_curves(runs, [cost.metric for cost in costs if cost.by_epoch])
    is_accepted = any(sweep in run.tags.get(ACCEPTED, "").split(",") for run in runs)
    found = []
    for each in map(seed_run, runs):
        paid = {str(cost): cost.of(each.final, each.curves, each.best_epoch) for cost in costs}
        found.append(replace(each, code="" if is_accepted else each.code, costs=paid))
    return found


def seed_run(run: Recorded) -> SeedRun:
    """The values of a run that the analysis compares."""
    data = run.tags.get("data.sha256", str(run.dataset.get("sha256", "")))
    objective = Objective.of(run.params)
    settings = {
        key: AS_TYPED.get(value, value)
        for key, value in run.params.items()
        if determines_result(key)
    }
    if settings.get(KEY) == str(objective):
        del settings[KEY]  # the same for all that are compared; earlier versions had no key
    split = [run.params.get(f"dataset.{key}", "") for key in ("num_val", "split_seed")]
    return SeedRun(
        run=run.run,
        name=run.name,
        settings=settings,
        curves=run.curves,
        final=run.final,
        data=data,
        code=run.tags.get("code.sha256", ""),
        validation="/".join([data, *split]),
        test_count=int(run.dataset.get("test", 0)),
        objective=objective,
    )


def outcome(source: Source, run: Recorded, into: Path, notes: list[str]) -> Outcome | None:
    """The predictions of a run for the test examples; None, with a note, if they are missing.

    into: the folder for downloads.
    """
    try:
        path = source.fetch(run, PREDICTIONS, _download_folder(into, run))
        with path.open("rb") as file, np.load(file) as content:
            labels, probabilities = content["labels"], content["probabilities"]
        if labels.ndim == 2:
            return None  # the targets of a regression: no prediction is right or wrong
    except Missing as error:
        why, trainer = str(error), run.params.get("trainer.name", "")
        if ":" in trainer:
            why = (
                f"{run.run}: trainer={trainer} gave no predictions of the test set, which "
                "run.predictions takes, or they were lost"
            )
        notes.append(f"{why}; no paired test on its examples")
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        notes.append(
            f"{run.run}: {PREDICTIONS} cannot be read ({explained(error)}); no paired test with it"
        )
        return None
    predicted = probabilities.argmax(axis=1).astype(labels.dtype)
    return Outcome(labels, predicted, probabilities.max(axis=1))


def weights(
    source: Source, run: Recorded, into: Path, notes: list[str]
) -> NDArray[np.floating[Any]] | None:
    """The first-layer weights, (rows, columns, H); None, with a note, if they are missing.

    Also None, without a note, where an example is no gray image, the first layer has no weights or
    does not see whole images, or a training function of the user's trained.
    """
    if run.params.get("trainer.name", SCRATCH) != SCRATCH:
        return None
    try:
        arrays, description = checkpoint.load(
            source.fetch(run, WEIGHTS, _download_folder(into, run))
        )
        if len(description.get("image_shape", ())) != 2:
            return None
        rows, columns = description["image_shape"]
        weights = arrays.get("layer1.weights")
        if weights is None or weights.shape[:1] != (rows * columns,):
            return None
        return weights.reshape(rows, columns, -1)
    except ValueError as error:
        notes.append(f"no figure of the first-layer weights: {error}")
        return None


def images(run: Recorded, outputs: Folders, notes: list[str]) -> NDArray[np.uint8] | None:
    """The test images of a run's data set, (N, rows, columns) or (N, rows, columns, 3).

    None, with a note, if it is missing, and without one if the examples are no pictures. The data
    set is compared by its digest.
    """
    from harness.data.dataset import open_dataset
    from harness.data.extraction import prepare
    from harness.data.sources import locate
    from harness.data.split import Split

    digest = run.tags.get("data.sha256", "")
    caches = [folder / "cache" for folder in listed(outputs)]
    cache = next((each for each in caches if (each / digest).is_dir()), caches[0])
    name = run.params.get("dataset.name", "")
    place = run.params.get("dataset.file" if name == "arrays" else "dataset.dir", "None")
    own = None if place == "None" else place
    try:
        if digest and not (cache / digest / "meta.json").is_file() and locate(name, own):
            prepare(name, own, cache)
        opened = open_dataset(digest, cache, Split(0))
    except (ValueError, KeyError, OSError):
        notes.append(
            f"no misclassified images: the data set {name or '?'} {digest[:8]} is not on this "
            "machine"
        )
        return None
    return opened.test.inputs.reshape(-1, *opened.input_shape) if opened.is_image else None


def class_names(run: Recorded, classes: int) -> tuple[str, ...]:
    """The names of at least `classes` classes: those of the run's data set, else the labels."""
    names = tuple(map(str, run.dataset.get("class_names", ())))
    return names + tuple(map(str, range(len(names), classes)))


def _download_folder(into: Path, run: Recorded) -> Path:
    """Where a store puts the files of a run; it makes the folder if it downloads any."""
    return into / Path(run.location).name
