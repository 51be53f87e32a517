"""The study of a search: Optuna's record of its trials, its sampler and its pruner."""

import itertools
import operator
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.run.search import pausing
from harness.run.search.search import Search, refuse_changes, start, state_elsewhere
from harness.run.search.space import Parameter
from harness.run.search.storage import Storage
from harness.runfolder import removed
from harness.runfolder.config import ConfigError
from harness.runfolder.cost import Cost, front
from harness.runfolder.folder import open_run
from harness.runfolder.objective import Objective

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial


REMOVED = "removed-"  # what the study of a removed search begins with
STATE = "state"  # of a study: what the search started with
ERROR = "error"  # of a trial: why it failed
IMPOSSIBLE = "impossible"  # of a trial that failed: its values cannot be combined
RESUMES = "resumes"  # of a trial: the number of the one that it takes the place of
RUN = "run"  # of a trial: the id of its run, the last one of several seeds
RUNS = "runs"  # of a trial: the ids of its runs; earlier versions noted only the last one
POPULATION = 20  # of the sampler nsga2, which proposes at random until it has so many trials


def failures() -> tuple[type[Exception], ...]:
    """The exceptions of a record that cannot be read or written: the database, a journal."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    return ValueError, OptunaError, SQLAlchemyError


def _quiet() -> None:
    """Have Optuna print nothing but errors: its users here cannot act on its warnings."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def rename(outputs: Path, before: str, after: str) -> None:
    """Give a study another name, in place of one that has it; nothing to do where there is none.

    Raises `ConfigError`.
    """
    import optuna

    _quiet()
    with _existing(outputs, before, after) as storage:
        names = [] if storage is None else optuna.get_all_study_names(storage)
        if storage is None or before not in names:
            return
        if after in names:
            optuna.delete_study(study_name=after, storage=storage)
        optuna.copy_study(
            from_study_name=before, from_storage=storage, to_storage=storage, to_study_name=after
        )
        optuna.delete_study(study_name=before, storage=storage)


def forget(outputs: Path, name: str) -> None:
    """Delete a study; nothing to do where there is none. Raises `ConfigError`."""
    import optuna

    with _existing(outputs, name) as storage:
        if storage is not None and name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)


@contextmanager
def _existing(outputs: Path, *names: str) -> "Iterator[RDBStorage | None]":
    """The database of a search, one command at a time; None if there is none.

    names: of its study; that of a removed search begins with `REMOVED`.
    """
    place = Storage.of(outputs, min(names, key=len).removeprefix(REMOVED))
    if not place.is_there():
        yield None
        return
    with place.lock():
        yield place.open()


def open_study(search: Search) -> "Study":
    """The study of a search, with the sampler and the pruner of the settings.

    Raises `ConfigError` if its database cannot be used.
    """
    import optuna
    from optuna import pruners, samplers

    _quiet()
    settings, epochs = search.settings, search.epochs
    is_max = [Objective.parse(search.base.objective).is_max]
    is_max += [Cost.parse(cost).is_max for cost in search.costs]
    place = search.storage
    with place.lock():  # two commands may create it at the same time
        try:
            study = optuna.create_study(
                storage=place.open(),
                study_name=search.id,
                directions=["maximize" if each else "minimize" for each in is_max],
                load_if_exists=True,
            )
            known = len(study.trials)
        except ConfigError:
            raise
        except failures() as error:
            raise place.unusable(str(error)) from error
    # A sampler restarted from the same seed would repeat its first proposals.
    seed = settings.seed + known
    startup, warmup = settings.startup_trials, settings.warmup_epochs
    match settings.sampler:
        case "tpe":
            study.sampler = samplers.TPESampler(seed=seed, n_startup_trials=startup)
        case "nsga2":
            study.sampler = samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        case "random":
            study.sampler = samplers.RandomSampler(seed=seed)
        case "qmc":
            study.sampler = samplers.QMCSampler(
                seed=settings.seed, scramble=True, warn_independent_sampling=False
            )
    first = max(1, warmup)
    # Which of several objectives is hopeless after some epochs, no pruner can tell.
    match "none" if search.costs else settings.pruner:
        case "none" | "asha":  # which pauses trials, see `pausing.py`
            study.pruner = pruners.NopPruner()
        case "median":
            study.pruner = pruners.MedianPruner(startup, warmup)
        case "halving":
            study.pruner = pruners.SuccessiveHalvingPruner(first, reduction_factor=3)
        case "hyperband":
            study.pruner = pruners.HyperbandPruner(first, max(first, epochs), reduction_factor=3)
    return study


def proposed(search: Search, ranked: Sequence[pausing.Course], begun: int) -> dict[str, Any]:
    """The values of a new setting by TPE, from the settings that were tried, best first.

    They were trained for different numbers of epochs, so only their order counts. begun: how many
    settings have started; two that start at the same time are not the same.
    """
    import optuna
    from optuna import samplers

    seed = 1000 * search.settings.seed + begun
    startup = pausing.startup(search.settings.startup_trials)
    sampler = samplers.TPESampler(seed=seed, n_startup_trials=startup)
    study = optuna.create_study(sampler=sampler)
    study.add_trials(
        optuna.trial.create_trial(
            params=each.params, distributions=each.distributions, value=float(place)
        )
        for place, each in enumerate(ranked)
    )
    trial = study.ask()
    for parameter in search.space:
        parameter.suggest(trial)
    return trial.params


def begin(search: Search) -> None:
    """Freeze what the search starts with, or compare it with what it started with.

    Raises `ConfigError`; then a folder of the search that was not there is not there either.
    """
    is_new = not search.folder.exists()
    state = start(search)
    try:
        if search.storage.uri is not None:
            _agree(search, state)
    except ConfigError:
        if is_new:
            shutil.rmtree(search.folder, ignore_errors=True)
        raise


def _agree(search: Search, state: dict[str, Any]) -> None:
    """Note in the study what the search starts with, or compare it with what it started with.

    For commands that do not share the folder of the search. Raises `ConfigError`.
    """
    study, now = open_study(search), state_elsewhere(search, state)
    with search.storage.lock():
        before = study.user_attrs.get(STATE)
        if before is None:
            study.set_user_attr(STATE, now)
        else:
            refuse_changes(search, before, now)


def ended(study: "Study") -> Sequence["FrozenTrial"]:
    """The trials that count toward the total: finished, pruned or failed.

    Not those that were interrupted, or whose place another trial with the same values has taken.
    """
    from optuna.trial import TrialState

    done = (TrialState.COMPLETE, TrialState.PRUNED)
    trials, others = study.get_trials(deepcopy=False), resumed(study)
    return [
        t for t in trials if (t.state in done or ERROR in t.user_attrs) and t.number not in others
    ]


def resumed(study: "Study") -> set[int]:
    """The numbers of the trials whose place another one has taken."""
    trials = study.get_trials(deepcopy=False)
    return {t.user_attrs[RESUMES] for t in trials if RESUMES in t.user_attrs}


def is_removed(place: Storage, trial: "FrozenTrial") -> bool:
    """Whether a run of a trial was removed.

    Of commands that do not share `outputs`, the runs of some trials are elsewhere: what is not here
    counts as removed only if it was removed here.
    """
    last = [trial.user_attrs[RUN]] if RUN in trial.user_attrs else []
    runs = trial.user_attrs.get(RUNS, last)
    lost = {i for i in runs if not open_run(place.outputs, i).is_readable()}
    if place.uri is None or not lost:
        return bool(lost)
    there = {i for i in lost if removed.removed_run(place.outputs, i).folder.is_dir()}
    return bool(there or lost & removed.gone(place.outputs))


def best(
    outputs: Path, name: str, count: int, space: Sequence[Parameter] = ()
) -> list[dict[str, str]]:
    """The settings of the best finished trials of a study, best first, each value as it is typed.

    With several objectives, those on the Pareto front, ordered by the first one. A trial with a
    removed run does not count.

    Raises `ConfigError` if there is no such study.
    """
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    _quiet()
    place = Storage.of(outputs, name)
    try:
        storage = place.open() if place.is_there() else None
        if storage is None or name not in optuna.get_all_study_names(storage):
            raise ConfigError(f"{place}: has no trials of search {name}; repeat its command")
        study = optuna.load_study(study_name=name, storage=storage)
        trials = study.get_trials(states=(TrialState.COMPLETE,))
        trials = [trial for trial in trials if not is_removed(place, trial)]
    except failures() as error:
        if isinstance(error, ConfigError):
            raise
        raise place.unusable(str(error)) from error
    signs = [-1 if each is StudyDirection.MAXIMIZE else 1 for each in study.directions]
    if len(signs) > 1:
        points = [tuple(map(operator.mul, signs, trial.values)) for trial in trials]
        trials = list(itertools.compress(trials, front(points)))
    trials.sort(key=lambda trial: signs[0] * trial.values[0])
    typed = {parameter.key: parameter.typed for parameter in space}
    settings = [
        {key: typed.get(key, str)(value) for key, value in t.params.items()} for t in trials
    ]
    return [each for n, each in enumerate(settings) if each not in settings[:n]][:count]
