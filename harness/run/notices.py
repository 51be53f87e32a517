"""What a command says about its jobs before it trains them, one line each on standard error."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from harness.data.dataset import Dataset
from harness.data.normalization import narrow_range
from harness.runfolder import config as configuration
from harness.runfolder import keys
from harness.runfolder.history import History
from harness.runfolder.run import REPRODUCES, Run
from harness.runfolder.schema import Config

FIXED_RANGE = ("minmax", "unit")  # normalizations of the range of uint8, not of the values


@cache
def say(line: str) -> None:
    """Print a line, once in a command."""
    print(line, file=sys.stderr)


def narrow_grays(normalization: str, data: Dataset) -> None:
    """Say that a normalization leaves bytes near one end of its range, if it does."""
    if normalization not in FIXED_RANGE:
        return
    grays = narrow_range(data.train.inputs, data.train.rows)
    if grays is not None:
        values = "gray values" if data.is_image else "values"
        say(
            f"dataset {data.name}: {values} are only {grays[0]} to {grays[1]} of 0 to 255, and "
            f"normalization={normalization} maps 0 to 255; normalization=standard adapts to them"
        )


def retraining(runs: Iterable[Run], new: Sequence[tuple[Config, str, str]]) -> None:
    """Say how many jobs train again only because the source changed since, if any do.

    runs: oldest first. new: configuration, digest of the data and run key of each job that no
    existing run has.
    """
    wanted = {_subject(configuration.leaves(config), data): key for config, data, key in new}
    found: dict[str, History] = {}
    for run in runs if wanted else ():
        tags = run.create["tags"]
        subject = _subject(run.create["params"], run.create.get("dataset", {}).get("sha256"))
        key = tags.get("run_key")
        is_other = REPRODUCES not in tags and key != wanted.get(subject, key)
        if is_other and run.is_finished:
            found[subject] = run.history()
    if found:
        say(
            f"{len(found)} of {len(new)} new jobs were trained before by other source "
            f"({_source_of(list(found.values())[-1])}); training again"
        )


def _subject(params: Mapping[str, object], data_digest: object) -> str:
    return keys.digest(keys.subject(params, data_digest), 16)


def _source_of(history: History) -> str:
    """The commit and the day of a run's source, as far as they are known."""
    commit = history.tags.get("mlflow.source.git.commit")
    words = f"commit {commit[:7]}" if commit else "commit not known"
    if history.tags.get("git.dirty") == "true":
        words += " with uncommitted changes"
    if "ms" in history.create:
        words += time.strftime(", %Y-%m-%d", time.localtime(history.create["ms"] / 1000))
    return words
