"""Read from recorded runs what a comparison needs: values, predictions, weights and images.

Anything missing or damaged becomes a note, and the rest is compared.
"""

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.ranking import Outcome
from harness.analysis.settings import SeedRun
from harness.nn import metrics
from harness.runfolder import checkpoint
from harness.runfolder.keys import determines_result
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Missing, Recorded, Source
from harness.tracking.selection import Selection

PREDICTIONS, WEIGHTS = "predictions/test.npz", "weights/best.safetensors"


def finished(selection: Selection, notes: list[str]) -> list[Recorded]:
    """The runs that can be compared. Raises `ValueError` if there are none."""
    if not selection.recorded:
        raise ValueError(f"{selection.title}: there are no runs to compare")
    left = Counter(run.status for run in selection.recorded if run.status is not RunStatus.FINISHED)
    finished = [run for run in selection.recorded if run.status is RunStatus.FINISHED]
    if left:
        names = [run.name for run in selection.recorded if run.status is not RunStatus.FINISHED]
        counts = ", ".join(f"{count} {status}" for status, count in left.items())
        more = ", ..." if len(names) > 4 else ""
        notes.append(f"left out because not finished: {counts} ({', '.join(names[:4])}{more})")
    known = [
        run for run in finished if metrics.VAL_ERROR in run.final or metrics.TEST_ERROR in run.final
    ]
    if len(known) < len(finished):
        notes.append(
            f"{len(finished) - len(known)} finished run(s) have neither {metrics.VAL_ERROR} nor "
            f"{metrics.TEST_ERROR} and were left out"
        )
    if not known:
        why = notes[-1] if notes else "no run has metrics"
        raise ValueError(f"{selection.title}: nothing to compare: {why}")
    untested = [run.name for run in known if metrics.TEST_ERROR not in run.final]
    if untested:
        notes.append(f"{len(untested)} run(s) have no {metrics.TEST_ERROR}: {untested[0]}")
    return known


def seed_run(run: Recorded) -> SeedRun:
    """The values of a run that the analysis compares."""
    data = run.tags.get("data.sha256", str(run.dataset.get("sha256", "")))
    split = [run.params.get(f"dataset.{key}", "") for key in ("num_val", "split_seed")]
    return SeedRun(
        run=run.run,
        name=run.name,
        settings={key: value for key, value in run.params.items() if determines_result(key)},
        curves=run.curves,
        final=run.final,
        data=data,
        validation="/".join([data, *split]),
        test_count=int(run.dataset.get("test", 0)),
    )


def outcome(source: Source, run: Recorded, into: Path, notes: list[str]) -> Outcome | None:
    """The predictions of a run for the test images; None, with a note, if they are missing.

    into: the folder for downloads.
    """
    try:
        path = source.fetch(run, PREDICTIONS, _download_folder(into, run))
        with path.open("rb") as file, np.load(file) as content:
            labels, probabilities = content["labels"], content["probabilities"]
        if labels.ndim == 2:
            return None  # the targets of a regression: no prediction is right or wrong
    except Missing as error:
        notes.append(f"{error}; no paired test on its images")
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        notes.append(f"{run.run}: {PREDICTIONS} cannot be read ({error}); no paired test with it")
        return None
    predicted = probabilities.argmax(axis=1).astype(labels.dtype)
    return Outcome(labels, predicted, probabilities.max(axis=1))


def weights(
    source: Source, run: Recorded, into: Path, notes: list[str]
) -> NDArray[np.floating[Any]] | None:
    """The first-layer weights, (rows, columns, H); None, with a note, if they are missing.

    Also None, without a note, where an example is no gray image.
    """
    try:
        arrays, description = checkpoint.load(
            source.fetch(run, WEIGHTS, _download_folder(into, run))
        )
        if len(description["image_shape"]) != 2:
            return None
        rows, columns = description["image_shape"]
        weights: NDArray[np.floating[Any]] = arrays["layer1.weights"].reshape(rows, columns, -1)
    except (ValueError, KeyError) as error:
        notes.append(f"no figure of the first-layer weights: {error}")
        return None
    return weights


def images(run: Recorded, outputs: Path, notes: list[str]) -> NDArray[np.uint8] | None:
    """The test images of a run's data set, (N, rows, columns) or (N, rows, columns, 3).

    None, with a note, if it is missing, and without one if the examples are no pictures. The data
    set is compared by its digest.
    """
    from harness.data.dataset import open_dataset
    from harness.data.extraction import prepare
    from harness.data.sources import locate

    digest, cache = run.tags.get("data.sha256", ""), outputs / "cache"
    name = run.params.get("dataset.name", "")
    place = run.params.get("dataset.file" if name == "arrays" else "dataset.dir", "None")
    own = None if place == "None" else place
    try:
        if digest and not (cache / digest / "meta.json").is_file() and locate(name, own):
            prepare(name, own, cache)
        opened = open_dataset(digest, cache, num_val=0)
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
    folder = into / Path(run.location).name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
