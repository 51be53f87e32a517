"""Load the network of a run, with its calibration."""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness.data.atomic import write_text
from harness.data.dataset import open_dataset
from harness.data.normalization import recorded_range
from harness.job.trained import CODE, NETWORK_PARTS, RANGE
from harness.recognizer import calibration, recognizer
from harness.recognizer.calibration import Calibration
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import own_code
from harness.runfolder.artifacts import sha256
from harness.runfolder.hint import continuing, hint
from harness.runfolder.run import WEIGHTS, Run
from harness.runfolder.status import RunStatus
from harness.tracking.reading import Reader
from harness.training.evaluation import evaluate

CALIBRATION = "weights/calibration.json"


def load_run(run: Run, also: Iterable[str] = ()) -> Recognizer:
    """Load the network of a run, calibrated if its data is available.

    The user's modules that it needs are imported if they are unchanged since the run was
    frozen. also: `MODULE:NAME` of others that the caller will import. Raises `ValueError` if they
    are not, if the run has no weights, or if they or the calibration cannot be used.
    """
    trainer = run.config.trainer  # raises if it was changed
    if trainer.is_own:
        raise ValueError(
            f"run {run.id} was trained by trainer={trainer.name}: its model is not a network of "
            "the harness, which only the built-in trainer makes; "
            f"`{hint('compare', run.id, outputs=run.outputs)}` reads its metrics and predictions"
        )
    named = run.config.parts
    network = [named[kind].name for kind in NETWORK_PARTS if named[kind].is_own]
    own_code.use(run.history().code, [*network, *also])
    if not run.is_finished and not run.weights.is_file():
        raise ValueError(_why_no_weights(run))
    weights = run.verified(WEIGHTS)
    trained = recognizer.load(weights, is_local=True, run=run.id)
    if trained.own_parts and CODE not in trained.description:  # an earlier version wrote it
        trained.description[CODE] = {e.path: e.syntax for e in own_code.sources(network)}
    if RANGE not in trained.description and (known := _range(run)):  # an earlier version's
        trained.description[RANGE] = known
    fitted = _calibration(run, trained, weights)
    if fitted is not None and fitted.images < calibration.ENOUGH:
        trained.uncalibrated = (
            f"{fitted.images} validation examples, fewer than {calibration.ENOUGH}"
        )
    elif fitted is not None:
        trained.description["calibration"] = dataclasses.asdict(fitted)
    return trained


def _why_no_weights(run: Run) -> str:
    """Why a run has no weights, and the command that finishes it."""
    history = run.history()
    what = f"it is {history.status} after {len(history.epochs)} epochs"
    if history.status is RunStatus.FAILED:
        return f"run {run.id} has no weights: {what}: {history.error}"
    return (
        f"run {run.id} has no weights yet: {what}; `{continuing(run.id, run.outputs)}` finishes it"
    )


def _range(run: Run) -> list[float] | None:
    """The range of the training data, where it is to be recorded and they are in the cache."""
    try:
        digest = str(run.create["dataset"]["sha256"])
        data = open_dataset(digest, run.cache, run.config.dataset.split)
    except ValueError:
        return None
    known = recorded_range(data.input_shape, data.train.inputs, data.train.rows)
    return None if known is None else list(known)


def load_stored(reader: Reader, run_id: str) -> Recognizer:
    """Load the network of a run from a tracking store. Raises `ValueError` or `StoreError`.

    It is not calibrated, because that needs the validation examples.
    """
    recorded = reader.run(run_id)
    with tempfile.TemporaryDirectory() as temporary:
        weights = reader.fetch(recorded, WEIGHTS, Path(temporary))
        return recognizer.load(weights, run=recorded.run)


def _calibration(run: Run, trained: Recognizer, weights: Path) -> Calibration | None:
    """The saved calibration, else a new one; None without validation examples, of a regression.

    A new one is saved, unless the folder cannot be written.
    """
    path = run.folder / CALIBRATION
    if path.is_file():
        return _read_calibration(path, weights)
    try:
        if trained.is_regression or not run.config.dataset.num_val:
            return None
        data = run.dataset()
        if data.val is None:
            return None
        _, probabilities = evaluate(trained.network, data.val, trained.normalization, trained.loss)
    except (ValueError, OSError):  # the data is no longer there
        return None
    labels = data.val.labels if data.val.rows is None else data.val.labels[data.val.rows]
    fitted = calibration.fit(probabilities, labels)
    content = dataclasses.asdict(fitted) | {"weights": sha256(weights)}
    with contextlib.suppress(OSError):
        write_text(path, json.dumps(content, indent=1) + "\n")
    return fitted


def _read_calibration(path: Path, weights: Path) -> Calibration:
    """The calibration that was fitted on these weights. Raises `ValueError` for any other."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
        digest = sha256(weights)
        if content.pop("weights", digest) != digest:  # 0.1 wrote none
            raise ValueError("that of other weights")
        fitted = Calibration(**content)
        calibration.check(fitted.temperature)
        if type(fitted.images) is not int:
            raise ValueError(f"images {fitted.images!r}")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected the calibration of {weights.name}, found {error}; remove the file, "
            "and it is fitted again"
        ) from error
    return fitted
