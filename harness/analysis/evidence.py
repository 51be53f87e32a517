"""Read values, predictions, weights and images from recorded runs for a comparison.

Anything missing or damaged becomes a note, and the rest is compared.
"""

import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis import comparable
from harness.analysis.outcome import Outcome
from harness.analysis.seed_run import SeedRun
from harness.data.atomic import explained
from harness.runfolder import checkpoint
from harness.runfolder.cost import Cost
from harness.runfolder.keys import determines_result
from harness.runfolder.kinds import SCRATCH
from harness.runfolder.objective import KEY, Objective
from harness.runfolder.run import PREDICTIONS, WEIGHTS
from harness.runfolder.selection import Folders, listed
from harness.tracking.recorded import Missing, Recorded, Source
from harness.tracking.selection import Selection

AS_TYPED = {"True": "true", "False": "false", "None": "null"}  # by the text that a store has


def seed_runs(selection: Selection, finished: Iterable[Recorded]) -> list[SeedRun]:
    """The values of the finished runs of a selection.

    If a sweep accepted runs with other source by `accept=source`, source separates no settings.
    """
    runs = list(finished)
    costs = [Cost.parse(each) for each in selection.costs]
    selection.source.add_curves(runs, [cost.metric for cost in costs if cost.by_epoch])
    is_accepted = bool(comparable.accepted(selection, runs))
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
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
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

    Also None, without a note, if an example is not a gray image, if the first layer has no weights
    or does not see whole images, or if the user's training function trained the run.
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

    None, with a note, if the data set is missing; None, without a note, if the examples are not
    images. The data set is checked against its digest.
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
    """At least `classes` class names: those of the run's data set, else the labels."""
    names = tuple(map(str, run.dataset.get("class_names", ())))
    return names + tuple(map(str, range(len(names), classes)))


def _download_folder(into: Path, run: Recorded) -> Path:
    """Where a store puts the files of a run; it makes the folder if it downloads any."""
    return into / Path(run.location).name
