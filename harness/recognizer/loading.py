"""Choose a trained network and load it with its calibration."""

import dataclasses
import json
import logging
import tempfile
from contextlib import suppress
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
    """Load the network of a run; by default the registered champion, else the best local run.

    uri: the tracking store of the run or the champion, instead of the one in `outputs`. Raises
    `ValueError` if there is no network, with the command that trains one.
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
    """The finished run with the lowest validation error; runs on MNIST come first.

    A warning names each better one that is damaged. Raises `ValueError` if all are.
    """
    candidates = []
    for run in folder.all_runs(outputs):
        history = run.history()
        if run.is_finished:
            error = history.final.get(metrics.BEST_VAL_ERROR, 1.0)
            is_other = history.create["dataset"]["name"] != "mnist"
            candidates.append((is_other, error, str(run.folder), run))
    damaged: list[str] = []
    for *_, run in sorted(candidates, key=lambda each: each[:3]):
        problem = run.problem() or _damage(run)
        if problem is None:
            for line in damaged:
                logging.getLogger(__name__).warning("%s", line)
            return run
        damaged.append(problem)
    if damaged:
        raise ValueError(damaged[0])
    return None


def _damage(run: Run) -> str | None:
    """Why the weights of a finished run cannot be used; None when they can."""
    try:
        run.verified(WEIGHTS)
    except ValueError as error:
        return str(error)
    return None


def describe_source(trained: Recognizer) -> str:
    """Where the network comes from, for display: registered version and run."""
    description = trained.description
    version = f"{description['version']}, " if "version" in description else ""
    return f"{version}run {trained.run_id}"


def load_run(run: Run) -> Recognizer:
    """Load the network of a run, calibrated if its data is available.

    Raises `ValueError` if the run has no weights or they cannot be read.
    """
    _ = run.config  # raises if it was changed
    if not run.weights.is_file():
        history = run.history()
        raise ValueError(
            f"run {run.id} has no weights yet: it is {history.status} after "
            f"{len(history.epochs)} epochs; `python -m harness.run resume={run.id}` finishes it"
        )
    path = run.folder / CALIBRATION
    kept = Calibration(**json.loads(path.read_text())) if path.is_file() else None
    fitted = kept or _calibrate_if_cached(run)
    extra = {} if fitted is None else {"calibration": dataclasses.asdict(fitted)}
    return recognizer.load(run.verified(WEIGHTS), run=run.id, **extra)


def load_stored(reader: Reader, run_id: str) -> Recognizer:
    """Load the network of a run from a tracking store. Raises `ValueError` or `StoreError`.

    It is not calibrated, because that needs the validation images.
    """
    recorded = reader.run(run_id)
    with tempfile.TemporaryDirectory() as temporary:
        weights = reader.fetch(recorded, WEIGHTS, Path(temporary))
        return recognizer.load(weights, run=recorded.run)


def calibrate(run: Run) -> Calibration | None:
    """Fit the temperature of a run's best weights and save it; None without validation images.

    Raises `ValueError` if the weights or the cached data cannot be read.
    """
    if not run.config.dataset.num_val:
        return None
    data = run.dataset()
    assert data.val is not None
    trained = recognizer.load(run.verified(WEIGHTS))
    _, probabilities = evaluate(trained.network, data.val, trained.normalization)
    fitted = calibration.fit(probabilities, data.val.labels[data.val.rows])
    text = json.dumps(dataclasses.asdict(fitted), indent=1) + "\n"
    with suppress(OSError):  # where nothing can be written, it is fitted again the next time
        write_text(run.folder / CALIBRATION, text)
    return fitted


def _calibrate_if_cached(run: Run) -> Calibration | None:
    """Calibrate a run if its data is still in the cache."""
    try:
        return calibrate(run)
    except ValueError:
        return None
