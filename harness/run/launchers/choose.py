"""Create and validate the launcher that a command's settings select."""

from pathlib import Path
from typing import assert_never

from harness.run.launcher_schema import BasicLauncher, JoblibLauncher, Launcher, SlurmLauncher
from harness.run.launchers import base, slurm
from harness.run.launchers.local import Basic, Parallel
from harness.run.launchers.prestart import Prestart
from harness.runfolder.config import ConfigError


def create(settings: Launcher, outputs: Path, threads: int, prestart: Prestart) -> base.Launcher:
    """The launcher of jobs that must have this many BLAS threads each."""
    match settings:
        case BasicLauncher():
            return Basic(prestart)
        case JoblibLauncher():
            return Parallel(settings.n_jobs, threads, prestart)
        case SlurmLauncher():
            return slurm.Slurm(settings, outputs)
        case _:
            assert_never(settings)


def check(settings: Launcher, threads: int, *, is_sweep: bool) -> None:
    """Raise `ConfigError` if the launcher cannot run such jobs.

    threads: the BLAS threads of the job that needs most.
    """
    match settings:
        case BasicLauncher() | JoblibLauncher():
            return
        case SlurmLauncher():
            if not is_sweep:
                raise ConfigError(
                    "hydra/launcher=slurm: add -m; only a sweep, even one of one job, can be "
                    "followed again by repeating its command"
                )
            slurm.check(settings, threads)
        case _:
            assert_never(settings)
