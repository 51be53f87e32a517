"""The contract of launchers: every launcher has its parts, with the same signatures."""

import inspect

import pytest

from harness.run.launchers.base import Launcher
from harness.run.launchers.local import Basic, Parallel
from harness.run.launchers.prestart import Prestart
from harness.run.launchers.slurm import Slurm


@pytest.mark.parametrize("launcher", [Basic, Parallel, Slurm])
@pytest.mark.parametrize("method", ["run", "attend"])
def test_every_launcher_keeps_the_contract(launcher: type, method: str) -> None:
    expected = inspect.signature(getattr(Launcher, method))
    assert inspect.signature(getattr(launcher, method)) == expected


def test_every_launcher_says_how_many_jobs_it_runs_at_once() -> None:
    assert Basic(Prestart()).slots == 1
    assert Parallel(1, 1, Prestart()).slots == 1
    assert Launcher.__annotations__ == {"slots": int}
