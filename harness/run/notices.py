"""What a command says about its jobs before it trains them, one line each on standard error."""

import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache

from harness.data.dataset import Dataset
from harness.data.normalization import narrow_range
from harness.runfolder import config as configuration
from harness.runfolder import keys, versions
from harness.runfolder.history import History
from harness.runfolder.keys import Key
from harness.runfolder.run import REPRODUCES, Run
from harness.runfolder.schema import Config

NAMED = 3  # runs that a line names
# A job: its configuration, the digest of its data, its run key.
Wanted = tuple[Config, str, str]
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


def retraining(runs: Iterable[Run], new: Sequence[Wanted]) -> None:
    """Say which jobs train again only because the source changed since, if any do.

    runs: oldest first. new: the jobs that no existing run has.
    """
    found = [run.history() for run in of_other_source(runs, new).values()]
    if not found:
        return
    names = ", ".join(history.name for history in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    say(
        f"{len(found)} of {len(new)} new jobs were trained before by other source "
        f"({source_of(found[-1])}): {names}{more}; training again; accept=source keeps those runs"
    )


def of_other_source(
    runs: Iterable[Run], jobs: Sequence[Wanted], also: Collection[str] = ()
) -> dict[Key, Run]:
    """For each job that other source has trained to the end, the newest such run, by `full_key`.

    runs: oldest first. also: see `keys.full_key`.
    """
    wanted = {}
    for config, data, key in jobs:
        params = configuration.leaves(config)
        wanted[keys.full_key(_subject(params, data), params, also)] = key
    found: dict[Key, Run] = {}
    for run in runs if wanted else ():
        tags, params = run.create["tags"], versions.completed(run.create["params"])
        subject = _subject(params, run.create.get("dataset", {}).get("sha256"))
        full = keys.full_key(subject, params, also)
        if full not in wanted or REPRODUCES in tags or tags.get("run_key") == wanted[full]:
            continue
        if run.is_finished:
            found[(wanted[full], *full[1:])] = run
    return found


def _subject(params: Mapping[str, object], data_digest: object) -> str:
    return keys.digest(keys.subject(params, data_digest), 16)


def source_of(history: History) -> str:
    """The commit and the day of a run's source, as far as they are known."""
    commit = history.tags.get("mlflow.source.git.commit")
    words = f"commit {commit[:7]}" if commit else "commit not known"
    if history.tags.get("git.dirty") == "true":
        words += " with uncommitted changes"
    if "ms" in history.create:
        words += time.strftime(", %Y-%m-%d", time.localtime(history.create["ms"] / 1000))
    return words
