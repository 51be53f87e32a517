"""Choose a trained network and load it with its calibration."""

import contextlib
import dataclasses
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.data.atomic import write_text
from harness.data.dataset import open_dataset
from harness.data.normalization import recorded_range
from harness.job.build import CODE, NETWORK_PARTS, RANGE
from harness.recognizer import calibration, champion, recognizer
from harness.recognizer.calibration import Calibration
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import folder, own_code
from harness.runfolder.artifacts import sha256
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.run import WEIGHTS, Run
from harness.runfolder.selection import one_run
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking.errors import StoreError
from harness.tracking.reading import Reader
from harness.training.evaluation import evaluate

CALIBRATION = "weights/calibration.json"


def choose(outputs: Path, run_id: str | None = None, uri: str | None = None) -> Recognizer:
    """Load the network of a run on pictures; by default one that reads digits.

    By default, the first of these that exists: the champion registered for MNIST, the best local
    run on MNIST (without `uri`), the only other champion on pictures, the best local run; archived
    runs do not count. A warning names each better local run that cannot be used. run_id: also the
    name of a registered network.
    uri: the tracking store of the run or the champion, instead of the one in `outputs`. Raises
    `ValueError` if there is no network, with the command that trains one.
    """
    target = Target.named(uri, outputs)
    problems: list[str] = []
    try:
        if run_id is not None:
            return _of_pictures(_named(outputs, target, run_id, is_stored=uri is not None))
        candidates = _candidates(outputs, target, problems, champions_only=uri is not None)
        chosen = next((each for each in candidates if each is not None), None)
    except StoreError as error:
        raise ValueError(str(error)) from error
    if chosen is None:
        none = (
            f"no trained network of pictures in {outputs}: run `python -m harness.run "
            "experiment=quick` first, or name another folder with --outputs"
        )
        raise ValueError(problems[0] if problems else none)
    for problem in problems:
        logging.getLogger(__name__).warning("%s", problem)
    return chosen


def _named(outputs: Path, target: Target, name: str, *, is_stored: bool) -> Recognizer:
    """The network of the run or, if there is none, of the registered champion of that name.

    is_stored: whether the run is one of the store, not one in `outputs`.
    """
    try:
        if is_stored:
            return load_stored(Reader(target), name)
        run = one_run(outputs, name)
    except ValueError:
        with contextlib.suppress(StoreError):
            if (found := champion.registered(target, name)) is not None:
                return found
        raise
    return load_run(run)


def _candidates(
    outputs: Path, target: Target, problems: list[str], *, champions_only: bool
) -> Iterator[Recognizer | None]:
    """The networks to choose from, the first choice first; each is loaded when it is asked for.

    problems: takes a line for each local run that cannot be used. champions_only: local runs come
    after every champion.
    """
    yield _if_of_pictures(champion.registered(target, recognizer.MNIST))
    finished = [
        run
        for run in folder.all_runs(outputs)
        if run.is_finished
        and not run.is_archived
        and recognizer.reads_pictures(run.create["dataset"])
    ]
    finished.sort(key=_rank)
    mnist = [run for run in finished if _is_mnist(run)]
    if not champions_only:
        yield from _loaded(mnist, problems)
        mnist = []
    yield _if_of_pictures(champion.registered(target))
    yield from _loaded(mnist + [run for run in finished if not _is_mnist(run)], problems)


def _rank(run: Run) -> tuple[bool, str, float]:
    """A key that sorts the best run first: by validation error, then those of each other objective.

    Values of different objectives are not compared.
    """
    history = run.history()
    objective = Objective.of(history.params)
    value = objective.order(history.final.get(objective.best_key))
    return objective != DEFAULT, str(objective), value


def _loaded(runs: list[Run], problems: list[str]) -> Iterator[Recognizer]:
    for run in runs:
        try:
            yield load_run(run)
        except (ValueError, OSError) as error:
            problems.append(str(error))


def _if_of_pictures(trained: Recognizer | None) -> Recognizer | None:
    return trained if trained is not None and trained.reads_pictures else None


def _of_pictures(trained: Recognizer) -> Recognizer:
    _ = trained.picture_shape  # raises for a network of other data
    return trained


def _is_mnist(run: Run) -> bool:
    return bool(run.history().create["dataset"]["name"] == recognizer.MNIST)


def describe_source(trained: Recognizer) -> str:
    """Where the network comes from, for display: registered version and run."""
    description = trained.description
    version = f"{description['version']}, " if "version" in description else ""
    return f"{version}run {trained.run_id}"


def remarks(trained: Recognizer) -> list[str]:
    """What is particular about its answers to pictures, in words."""
    found = []
    if known := trained.value_range:
        found.append(f"pictures are scaled to its gray values {known[0]:g} to {known[1]:g}")
    if trained.uncalibrated:
        found.append(f"not calibrated: {trained.uncalibrated}")
    return found


def load_run(run: Run, also: Iterable[str] = ()) -> Recognizer:
    """Load the network of a run, calibrated if its data is available.

    Modules of the user's that it needs are imported, if they are as they were when the run was
    frozen. also: `MODULE:NAME` of others that the caller will import. Raises `ValueError` if they
    are not, if the run has no weights, or if they or the calibration cannot be used.
    """
    trainer = run.config.trainer  # raises if it was changed
    if trainer.is_own:
        raise ValueError(
            f"run {run.id} was trained by trainer={trainer.name}: its model is not a network of "
            "the harness, which only the built-in trainer makes; `python -m harness compare` "
            "reads its metrics and predictions"
        )
    named = run.config.parts
    network = [named[kind].name for kind in NETWORK_PARTS if named[kind].is_own]
    own_code.use(run.history().code, [*network, *also])
    if not run.is_finished and not run.weights.is_file():
        history = run.history()
        what = f"it is {history.status} after {len(history.epochs)} epochs"
        if history.status is RunStatus.FAILED:
            raise ValueError(f"run {run.id} has no weights: {what}: {history.error}")
        raise ValueError(
            f"run {run.id} has no weights yet: {what}; `python -m harness.run resume={run.id}` "
            "finishes it"
        )
    weights = run.verified(WEIGHTS)
    trained = recognizer.load(weights, is_local=True, run=run.id)
    if trained.own_parts and CODE not in trained.description:  # an earlier version wrote it
        trained.description[CODE] = {e.path: e.syntax for e in own_code.sources(network)}
    if RANGE not in trained.description and (known := _range(run)):  # an earlier version's
        trained.description[RANGE] = known
    path = run.folder / CALIBRATION
    if path.is_file():
        fitted: Calibration | None = _read_calibration(path, weights)
    else:
        fitted = _calibrate(run, trained, weights)
    if fitted is not None and fitted.images < calibration.ENOUGH:
        trained.uncalibrated = (
            f"{fitted.images} validation examples, fewer than {calibration.ENOUGH}"
        )
    elif fitted is not None:
        trained.description["calibration"] = dataclasses.asdict(fitted)
    return trained


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


def _calibrate(run: Run, trained: Recognizer, weights: Path) -> Calibration | None:
    """Fit the temperature and save it; None without validation examples, and of a regression.

    In a folder that cannot be written, it is fitted and not saved.
    """
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
        write_text(run.folder / CALIBRATION, json.dumps(content, indent=1) + "\n")
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
