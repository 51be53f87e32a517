"""The temperature of a run, fitted on its validation images and kept beside its weights."""

import dataclasses
import json
import tempfile
from pathlib import Path

from harness.data.atomic import write_text
from harness.data.dataset import open_dataset
from harness.recognizer import calibration, recognizer
from harness.recognizer.calibration import Calibration
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import config, journal
from harness.runfolder import folder as runs
from harness.tracking.reading import Reader
from harness.training.evaluation import evaluate

WEIGHTS = "weights/best.safetensors"
FILE = "weights/calibration.json"


def calibrate(folder: Path) -> Calibration | None:
    """Fit the temperature of a run's best weights and write it; None without validation images.

    Raises `ValueError` when the weights or the cached data cannot be read.
    """
    wanted = config.read_yaml(folder / runs.CONFIG).dataset
    if not wanted.num_val:
        return None
    data = open_dataset(
        journal.history(folder).create["dataset"]["sha256"],
        folder.resolve().parents[1] / "cache",
        num_val=wanted.num_val,
        num_train=wanted.num_train,
        split_seed=wanted.split_seed,
    )
    assert data.val is not None
    trained = recognizer.load(folder / WEIGHTS)
    _, probabilities = evaluate(trained.network, data.val, trained.normalization)
    fitted = calibration.fit(probabilities, data.val.labels[data.val.rows])
    write_text(folder / FILE, json.dumps(dataclasses.asdict(fitted), indent=1) + "\n")
    return fitted


def load_run(folder: Path) -> Recognizer:
    """The recognizer of a run folder, calibrated where that is possible. Raises `ValueError`."""
    if not (folder / WEIGHTS).is_file():
        told = journal.history(folder)
        raise ValueError(
            f"run {folder.name} has no weights yet: it is {told.status} after "
            f"{len(told.epochs)} epochs; `python -m harness.run resume={folder.name}` finishes it"
        )
    path = folder / FILE
    fitted = Calibration(**json.loads(path.read_text())) if path.is_file() else _try(folder)
    about = {"run": folder.name}
    if fitted is None:
        return recognizer.load(folder / WEIGHTS, **about)
    return recognizer.load(folder / WEIGHTS, **about, calibration=dataclasses.asdict(fitted))


def load_stored(reader: Reader, run: str) -> Recognizer:
    """The recognizer of a run that a tracking store holds. Raises `ValueError` or `StoreError`.

    It is not calibrated: that takes the images it was validated on.
    """
    recorded = reader.run(run)
    with tempfile.TemporaryDirectory() as place:
        weights = reader.fetch(recorded, WEIGHTS, Path(place))
        return recognizer.load(weights, run=recorded.run)


def _try(folder: Path) -> Calibration | None:
    """Calibrate a run from before this was done at its end, if its data is still in the cache."""
    try:
        return calibrate(folder)
    except ValueError:
        return None
