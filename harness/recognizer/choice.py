"""Choose the trained network: a named one, else a champion or the best run."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from harness.recognizer import champion, recognizer
from harness.recognizer.loading import load_run, load_stored
from harness.recognizer.recognizer import Recognizer
from harness.runfolder import folder
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.run import Run
from harness.runfolder.selection import one_run
from harness.runfolder.target import Target
from harness.tracking.errors import StoreError
from harness.tracking.reading import Reader


def choose(outputs: Path, run_id: str | None = None, uri: str | None = None) -> Recognizer:
    """Load the network of a run on pictures; by default one that reads digits.

    By default, the first of these that exists: the champion registered for MNIST, the best local
    run on MNIST (without `uri`), the only other champion on pictures, the best local run; archived
    runs do not count. A warning names each better local run that cannot be used. run_id: also the
    name of a registered network. uri: the tracking store of the run or the champion, instead of the
    one in `outputs`. Raises `ValueError` if there is no network, with the command that trains one.
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
