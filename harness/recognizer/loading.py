"""Which trained network answers, and loading it with its calibration."""

import dataclasses
import json
import tempfile
from pathlib import Path

from harness.data.atomic import write_text
from harness.nn import metrics
from harness.recognizer import calibration, recognizer, registry
from harness.recognizer.calibration import Calibration
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import folder
from harness.runfolder.run import WEIGHTS, Run
from harness.runfolder.target import Target
from harness.tracking.reading import Reader
from harness.tracking.store import StoreError
from harness.training.evaluation import evaluate

CALIBRATION = "weights/calibration.json"


def choose(outputs: Path, run_id: str | None = None, uri: str | None = None) -> Recognizer:
    """The network of a run; without one the registered champion, else the best local run.

    uri: another tracking store than the one in `outputs`, also for the run. Raises `ValueError`
    with what to do when there is none.
    """
    if run_id is not None and uri is None:
        return load_run(folder.find(outputs, run_id))
    target = Target.named(uri, outputs)
    try:
        if run_id is not None:
            return load_stored(Reader(target), run_id)
        champion = registry.registered(target)
    except StoreError as error:
        raise ValueError(str(error)) from error
    if champion is not None:
        return champion
    best = best_run(outputs)
    if best is None:
        raise ValueError(
            f"no trained network in {outputs}: run `python -m harness.run experiment=quick` first, "
            "or name another folder with --outputs"
        )
    return load_run(best)


def best_run(outputs: Path) -> Run | None:
    """The finished run with the lowest validation error; runs on MNIST come first."""
    candidates = []
    for run in folder.all_runs(outputs):
        history = run.history()
        if run.is_finished and run.weights.is_file():
            error = history.final.get(metrics.BEST_VAL_ERROR, 1.0)
            is_other = history.create["dataset"]["name"] != "mnist"
            candidates.append((is_other, error, str(run.folder), run))
    return min(candidates)[-1] if candidates else None


def describe_source(trained: Recognizer) -> str:
    """Which network answers, for display."""
    description = trained.description
    version = f"{description['version']}, " if "version" in description else ""
    return f"{version}run {description['run']}"


def load_run(run: Run) -> Recognizer:
    """The recognizer of a run, calibrated where that is possible. Raises `ValueError`."""
    if not run.weights.is_file():
        history = run.history()
        raise ValueError(
            f"run {run.id} has no weights yet: it is {history.status} after "
            f"{len(history.epochs)} epochs; `python -m harness.run resume={run.id}` finishes it"
        )
    path = run.folder / CALIBRATION
    fitted = Calibration(**json.loads(path.read_text())) if path.is_file() else _try(run)
    more = {} if fitted is None else {"calibration": dataclasses.asdict(fitted)}
    return recognizer.load(run.weights, run=run.id, **more)


def load_stored(reader: Reader, run_id: str) -> Recognizer:
    """The recognizer of a run in a tracking store. Raises `ValueError` or `StoreError`.

    It is not calibrated, because that needs the validation images.
    """
    recorded = reader.run(run_id)
    with tempfile.TemporaryDirectory() as temporary:
        weights = reader.fetch(recorded, WEIGHTS, Path(temporary))
        return recognizer.load(weights, run=recorded.run)


def calibrate(run: Run) -> Calibration | None:
    """Fit the temperature of a run's best weights and write it; None without validation images.

    Raises `ValueError` when the weights or the cached data cannot be read.
    """
    if not run.config.dataset.num_val:
        return None
    data = run.dataset()
    assert data.val is not None
    trained = recognizer.load(run.weights)
    _, probabilities = evaluate(trained.network, data.val, trained.normalization)
    fitted = calibration.fit(probabilities, data.val.labels[data.val.rows])
    text = json.dumps(dataclasses.asdict(fitted), indent=1) + "\n"
    write_text(run.folder / CALIBRATION, text)
    return fitted


def _try(run: Run) -> Calibration | None:
    """Calibrate a run if its data is still in the cache."""
    try:
        return calibrate(run)
    except ValueError:
        return None
