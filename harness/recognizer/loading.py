"""Choose a trained network and load it with its calibration."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import tempfile
from pathlib import Path

from harness.data.atomic import write_text
from harness.nn import metrics
from harness.recognizer import calibration, champion, recognizer
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
    """Load the network of a run; by default one that reads digits.

    By default, the first of these that exists: the champion registered for MNIST, the best local
    run on MNIST (without `uri`), the only other champion, the best local run. uri: the tracking
    store of the run or the champion, instead of the one in `outputs`. Raises `ValueError` if there
    is no network, with the command that trains one.
    """
    if run_id is not None and uri is None:
        return load_run(folder.find(outputs, run_id))
    target = Target.named(uri, outputs)
    try:
        if run_id is not None:
            return load_stored(Reader(target), run_id)
        if (registered := champion.registered(target, champion.MNIST)) is not None:
            return registered
        best = best_run(outputs)
        if best is not None and uri is None and _is_mnist(best):
            return load_run(best)
        if (registered := champion.registered(target)) is not None:
            return registered
    except StoreError as error:
        raise ValueError(str(error)) from error
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
            candidates.append((not _is_mnist(run), error, str(run.folder), run))
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
        recognizer.load(run.verified(WEIGHTS), run=run.id)
    except ValueError as error:
        return str(error)
    return None


def _is_mnist(run: Run) -> bool:
    return bool(run.history().create["dataset"]["name"] == champion.MNIST)


def describe_source(trained: Recognizer) -> str:
    """Where the network comes from, for display: registered version and run."""
    description = trained.description
    version = f"{description['version']}, " if "version" in description else ""
    return f"{version}run {trained.run_id}"


def load_run(run: Run) -> Recognizer:
    """Load the network of a run, calibrated if its data is available.

    Raises `ValueError` if the run has no weights, or they or the calibration cannot be used.
    """
    _ = run.config  # raises if it was changed
    if not run.weights.is_file():
        history = run.history()
        raise ValueError(
            f"run {run.id} has no weights yet: it is {history.status} after "
            f"{len(history.epochs)} epochs; `python -m harness.run resume={run.id}` finishes it"
        )
    weights = run.verified(WEIGHTS)
    path = run.folder / CALIBRATION
    fitted = _read_calibration(path, weights) if path.is_file() else _calibrate_if_possible(run)
    extra = {} if fitted is None else {"calibration": dataclasses.asdict(fitted)}
    return recognizer.load(weights, run=run.id, **extra)


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

    In a folder that cannot be written, it is fitted and not saved. Raises `ValueError` if the
    weights or the data cannot be read.
    """
    if not run.config.dataset.num_val:
        return None
    data = run.dataset()
    assert data.val is not None
    weights = run.verified(WEIGHTS)
    trained = recognizer.load(weights, run=run.id)
    _, probabilities = evaluate(trained.network, data.val, trained.normalization)
    fitted = calibration.fit(probabilities, data.val.labels[data.val.rows])
    content = dataclasses.asdict(fitted) | {"weights": _sha256(weights)}
    with contextlib.suppress(OSError):
        write_text(run.folder / CALIBRATION, json.dumps(content, indent=1) + "\n")
    return fitted


def _calibrate_if_possible(run: Run) -> Calibration | None:
    """Calibrate a run if its data is still there."""
    try:
        return calibrate(run)
    except (ValueError, OSError):
        return None


def _read_calibration(path: Path, weights: Path) -> Calibration:
    """The calibration that was fitted on these weights. Raises `ValueError` for any other."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
        if content.pop("weights", _sha256(weights)) != _sha256(weights):  # 0.1 wrote none
            raise ValueError("that of other weights")
        fitted = Calibration(**content)
        calibration.check(fitted.temperature)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected the calibration of {weights.name}, found {error}; remove the file, "
            "and it is fitted again"
        ) from error
    return fitted


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
