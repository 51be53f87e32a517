"""Shared by the tests of searches."""

from hydra.core.override_parser.types import Override

from harness.run import overrides
from harness.run.launcher_schema import OptunaSweeper


def settings_of(*texts: str) -> list[Override]:
    """The overrides of runs as a command line has them."""
    return overrides.parse(list(texts)).settings


def sweeper(**changes: object) -> OptunaSweeper:
    """The settings of a small search."""
    defaults = {
        "name": "optuna", "study": "s", "storage": None, "n_trials": 4, "sampler": "tpe",
        "pruner": "median", "seed": 1, "startup_trials": 2, "warmup_epochs": 1,
    }  # fmt: skip
    return OptunaSweeper(**(defaults | changes))  # type: ignore[arg-type]
