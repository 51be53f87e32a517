"""The settings that execute a command's jobs: the groups hydra/launcher and hydra/sweeper.

They are options of the command, not of a run: no frozen configuration contains them, so they cannot
change a result.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from harness.data.override import suggest
from harness.runfolder.config import ConfigError
from harness.runfolder.schema import Count, Group, Natural, Positive, about
from harness.runfolder.values import allowed, explain

StudyName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_-]{1,60}$",
        description="1 to 60 letters, digits, underscores and hyphens",
    ),
]


@dataclass(frozen=True, kw_only=True)
class BasicLauncher(Group):
    """One job after the other."""

    name: Literal["basic"] = "basic"


@dataclass(frozen=True, kw_only=True)
class JoblibLauncher(Group):
    """conf/hydra/launcher/joblib.yaml"""

    name: Literal["joblib"]
    n_jobs: Count | Literal[-1] | None = about(
        "at most this many jobs at once; null or -1: as many as the cores allow"
    )


@dataclass(frozen=True, kw_only=True)
class SlurmLauncher(Group):
    """conf/hydra/launcher/slurm.yaml"""

    name: Literal["slurm"]
    partition: str | None = about("the partition; null: the cluster's default")
    account: str | None = about("the account to charge; null: the user's default")
    qos: str | None = about("the quality of service; null: the default")
    constraint: str | None = about("features a node must have")
    timeout_min: Count = about("minutes after which a job is stopped and requeued")
    mem_gb: Positive | None = about("memory of each job in GB; null: the partition's default")
    cpus_per_task: Count = about("cores of each job; its BLAS threads follow")
    array_parallelism: Count = about("at most this many jobs at once, in an array or a search")
    signal_delay_s: Count = about("seconds before the time limit at which a job is stopped")
    max_num_timeout: Natural = about("requeue a job that ran out of time at most this often")
    setup: list[str] | None = about("shell commands before each job, such as [module load python]")


@dataclass(frozen=True, kw_only=True)
class BasicSweeper(Group):
    """Every combination of the values on the command line."""

    name: Literal["basic"] = "basic"


ASHA = "asha"  # the pruner with which trials pause


@dataclass(frozen=True, kw_only=True)
class OptunaSweeper(Group):
    """conf/hydra/sweeper/optuna.yaml"""

    name: Literal["optuna"]
    study: StudyName | None = about("name of the search; null: a digest of the command")
    storage: str | None = about(
        "PostgreSQL database of the trials, for commands on several machines: "
        "postgresql://USER@HOST/NAME; null: outputs/optuna.db",
        default=None,
    )
    n_trials: Count = about("total number of trials; a repeated command continues to it")
    sampler: Literal["tpe", "random", "qmc", "nsga2"] = about(
        "how values are proposed: tpe, random, qmc, nsga2"
    )
    pruner: Literal["none", "median", "halving", "hyperband", "asha"] = about(
        "how hopeless trials are ended: none, median, halving, hyperband; asha: pause them instead"
    )
    seed: Natural = about("seed of the sampler")
    startup_trials: Natural = about(
        "random trials before the sampler and the median pruner start; twice as many with asha"
    )
    warmup_epochs: Natural = about("epochs before a trial can be pruned or paused")


Launcher = BasicLauncher | JoblibLauncher | SlurmLauncher
Sweeper = BasicSweeper | OptunaSweeper
SCHEMAS: dict[str, dict[str, type]] = {
    kind: {typing.get_args(typing.get_type_hints(schema)["name"])[0]: schema for schema in schemas}
    for kind, schemas in (
        ("launcher", typing.get_args(Launcher)),
        ("sweeper", typing.get_args(Sweeper)),
    )
}


@dataclass(frozen=True)
class Engines:
    """The launcher and the sweeper of a command."""

    launcher: Launcher = BasicLauncher()
    sweeper: Sweeper = BasicSweeper()


def keys(kind: str, name: str) -> dict[str, str]:
    """The keys of hydra/<kind>=<name> and their meanings."""
    fields = dataclasses.fields(SCHEMAS[kind][name])
    return {
        f"hydra.{kind}.{field.name}": field.metadata["meaning"]
        for field in fields
        if field.name != "name"
    }


def every_key() -> list[str]:
    """The keys of all launchers and sweepers, and those that choose one."""
    every = [
        key for kind, schemas in SCHEMAS.items() for name in schemas for key in keys(kind, name)
    ]
    return list(dict.fromkeys([*(f"hydra/{kind}" for kind in SCHEMAS), *every]))


def check_key(kind: str, name: str, key: str, text: str) -> None:
    """Refuse a key that the chosen engine does not have. Raises `ConfigError`."""
    known = keys(kind, name)
    if key in known:
        return
    others = [other for other in SCHEMAS[kind] if key in keys(kind, other)]
    if others:
        hint = f"; hydra/{kind}={others[0]} has it"
    elif known:
        hint = suggest(key, known) or f"; it has {', '.join(known)}"
    else:
        hint = f"; choose one with hydra/{kind}={', '.join(set(SCHEMAS[kind]) - {name})}"
    raise ConfigError(f"{text}: hydra/{kind}={name} has no such key{hint}")


def parse(kind: str, content: Mapping[str, Any]) -> Any:
    """The validated settings of one engine. Raises `ConfigError`, one line."""
    try:
        return TypeAdapter(SCHEMAS[kind][content["name"]]).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0])
        hints = typing.get_type_hints(SCHEMAS[kind][content["name"]], include_extras=True)
        expected, value = allowed(hints[field]), content[field]
        raise ConfigError(explain(f"hydra.{kind}.{field}", value, problem, expected)) from None
