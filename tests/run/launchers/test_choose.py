"""The launcher of a command's settings, and what each launcher cannot do."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.run.launcher_schema import BasicLauncher, JoblibLauncher, SlurmLauncher
from harness.run.launchers import choose
from harness.run.launchers.local import Basic, Parallel
from harness.run.launchers.prestart import Prestart
from harness.run.launchers.slurm import Slurm
from harness.runfolder.config import ConfigError
from tests.conftest import RUN, Command
from tests.run.test_launcher_schema import engines_of


def slurm_settings(*texts: str) -> SlurmLauncher:
    launcher = engines_of("hydra/launcher=slurm", *texts).launcher
    assert isinstance(launcher, SlurmLauncher)
    return launcher


def test_every_launcher_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CORES", "8")
    prestart = Prestart()
    assert isinstance(choose.create(BasicLauncher(), tmp_path, 1, prestart), Basic)
    parallel = choose.create(JoblibLauncher(name="joblib", n_jobs=None), tmp_path, 2, prestart)
    assert isinstance(parallel, Parallel)
    assert parallel.slots == 4, "cores over threads"
    slurm = choose.create(
        slurm_settings("hydra.launcher.array_parallelism=9"), tmp_path, 1, prestart
    )
    assert isinstance(slurm, Slurm)
    assert slurm.slots == 9


def test_local_launchers_can_do_everything() -> None:
    for settings in (BasicLauncher(), JoblibLauncher(name="joblib", n_jobs=None)):
        for is_sweep in (False, True):
            choose.check(settings, 99, is_sweep=is_sweep)


def test_slurm_needs_a_sweep() -> None:
    with pytest.raises(
        ConfigError, match="hydra/launcher=slurm: add -m; only a sweep, even one of"
    ):
        choose.check(slurm_settings(), 1, is_sweep=False)


def test_slurm_needs_its_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="there is no sbatch on this machine"):
        choose.check(slurm_settings(), 1, is_sweep=True)


def test_slurm_is_asked_whether_it_would_take_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        stderr = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job failed\n"
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", answer)
    with pytest.raises(ConfigError) as error:
        choose.check(slurm_settings("hydra.launcher.partition=x"), 1, is_sweep=True)
    assert "invalid partition specified: x; Batch job failed" in str(error.value)
    assert asked[0][:2] == ["sbatch", "--test-only"]
    assert {"--partition=x", "--mem=2048M", "--cpus-per-task=1", "--time=60"} <= set(asked[0])
    assert not [text for text in asked[0] if "None" in text]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("hydra/launcher=slurm",), "hydra/launcher=slurm: add -m; only a sweep"),
        (
            ("-m", "hydra/launcher=slurm", "hydra.launcher.timeout_min=1",
             "hydra.launcher.signal_delay_s=60"),
            "hydra.launcher.signal_delay_s=60: expected less than the 60 seconds of",
        ),
        (
            ("-m", "hydra/launcher=slurm", "threads=3"),
            "threads=3: hydra.launcher.cpus_per_task=1 gives a job 1 core(s); raise it, or leave",
        ),
    ],
)  # fmt: skip
def test_what_a_launcher_cannot_do_exits_2_with_one_line(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    done = command(RUN, *arguments, "tracking=none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert expected in done.stderr
    assert not (tmp_path / "outputs").exists()
