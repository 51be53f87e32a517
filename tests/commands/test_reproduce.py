"""Reproducing: to the last bit on the same machine, approximately and honestly elsewhere.

Covers: harness/run/reproduction.py
"""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.commands.reproduce import print_verdict
from harness.run.reproduction import Agreement, Check, check_settings, compare, compare_weights
from harness.runfolder import folder
from harness.runfolder.config import leaves
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking.reading import Reader
from harness.tracking.recorded import Recorded
from tests.conftest import Command, command_in, composed, run_folders
from tests.tracking.conftest import deliver, make_run

RUN = ("epochs=3", "batch=20", "lr=0.5", "width=24", "dataset.num_val=40", "backend=numpy")


def recorded(run: str, curves: dict[str, list[float]]) -> Recorded:
    arrays = {key: np.array(values) for key, values in curves.items()}
    final = {key: values[-1] for key, values in curves.items()}
    return Recorded(run, run, RunStatus.FINISHED, {}, {}, final, {}, "", "", arrays)


def test_every_metric_but_times_and_machine_is_compared_bit_by_bit() -> None:
    then = recorded("a", {"val/loss": [0.5, 0.25], "time/epoch_s": [1.0, 1.0], "x": [np.nan]})
    now = recorded(
        "b",
        {
            "val/loss": [0.5, 0.25 + 2**-54],
            "time/epoch_s": [2.0, 2.0],
            "x": [np.inf],
            "machine/cpu_s": [1.5],
        },
    )
    assert compare(then, now) == [
        Agreement("val/loss", 2, False, 2**-54),
        Agreement("x", 1, True, 0.0),
    ]


def test_a_metric_that_only_one_has_is_a_difference() -> None:
    (only,) = compare(recorded("a", {"v": [1.0, 2.0]}), recorded("b", {"v": [1.0]}))
    assert only.what == "v (2 values then, 1 now)"
    assert not only.equal


def test_the_verdict_has_the_largest_difference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = recorded("a", {})
    agreements = [Agreement("v", 2, True, 0.0), Agreement("w", 1, False, 3e-7)]
    checks = [Check("numpy", "2.1", "2.2"), Check("python", "3", "3")]
    assert print_verdict(run, run, checks, agreements[:1]) == 0
    assert "reproduced to the last bit: 2 values" in capsys.readouterr().out
    assert print_verdict(run, run, checks, agreements) == 1
    assert "w differs by up to 3e-07; what differs: numpy" in capsys.readouterr().err
    assert print_verdict(run, run, checks[1:], agreements) == 1
    assert "nothing that was recorded differs" in capsys.readouterr().err


def test_the_uncommitted_patch_is_one_that_git_applies(tmp_path: Path) -> None:
    def git(*arguments: str, text: str | None = None) -> str:
        return subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *arguments],
            check=True, capture_output=True, text=True, input=text,
        ).stdout  # fmt: skip

    (tmp_path / "harness").mkdir()
    source = tmp_path / "harness/module.py"
    source.write_text("before\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    source.write_text("after, with trailing blank lines\n\n\n")
    code = (
        "import sys; from pathlib import Path; from harness.runfolder import environment\n"
        f"environment.SOURCE = Path({str(tmp_path / 'harness')!r})\n"
        "assert environment.commit().dirty\n"
        "sys.stdout.write(environment.uncommitted())"
    )
    patch = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    git("checkout", "-q", "--", ".")
    assert source.read_text() == "before\n"
    git("apply", "-", text=patch)
    assert source.read_text() == "after, with trailing blank lines\n\n\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> Path:
    """A folder with one delivered run and one that failed."""
    cwd = tmp_path_factory.mktemp("trained")
    own = ("dataset=idx", f"dataset.dir={idx_folder}", *RUN)
    done = command_in(cwd)("harness.run", *own, timeout=300)
    assert done.returncode == 0, done.stderr
    done = command_in(cwd)("harness.run", *own, "lr=3e38", timeout=300)
    assert done.returncode == 1
    return cwd


def run_ids(cwd: Path) -> list[str]:
    return [folder.name for folder in run_folders(cwd / "outputs")]


@pytest.mark.service
def test_a_run_is_reproduced_to_the_last_bit(trained: Path) -> None:
    first = run_ids(trained)[0]
    done = command_in(trained)("harness", "reproduce", first[:8], timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    weights = 30 * 24 + 24 + 24 * 4 + 4
    metrics = 3 * 5 + 5  # loss, error and lr of training, loss and error of validation; five once
    assert f"reproduced to the last bit: {weights + metrics:,} values" in done.stdout
    assert "DIFFERS" not in done.stdout
    again = Run(trained / "outputs/runs" / run_ids(trained)[-1]).history()
    assert again.tags["reproduces"] == first
    assert folder.find(trained / "outputs", "last").id != again.run, "no run of the user's own"
    assert again.tags["run_key"] == f"reproduction of {first}", "no sweep may build on it"


@pytest.mark.service
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs an x86 processor")
def test_another_processor_reproduces_approximately(trained: Path) -> None:
    first = run_ids(trained)[0]
    # OpenBLAS's kernels for an old processor round differently: a real other machine in small.
    done = command_in(trained)(
        "harness", "reproduce", first, timeout=300, OPENBLAS_CORETYPE="Prescott"
    )
    assert done.returncode == 1
    assert "reproduced only approximately" in done.stderr
    assert "nothing that was recorded differs" in done.stderr
    assert " NO " in done.stdout


@pytest.mark.service
@pytest.mark.parametrize(
    ("word", "line"), [("zzz", "'zzz' is not a sweep"), ("failed", "is FAILED: only")]
)
def test_bad_runs_exit_2(trained: Path, word: str, line: str) -> None:
    run = run_ids(trained)[1] if word == "failed" else word
    done = command_in(trained)("harness", "reproduce", run)
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.service
def test_without_a_store_exit_2(command: Command) -> None:
    done = command("harness", "reproduce", "abc")
    assert done.returncode == 2
    assert "no results yet; start a run first" in done.stderr


def test_a_stored_config_that_contradicts_the_params_is_refused() -> None:
    config = composed("batch=32", "width=[8,4]")
    run = recorded("a", {})
    run.params.update({key: str(value) for key, value in leaves(config).items()})
    check_settings(run, config)
    del run.params["batch"]  # not known
    check_settings(run, config)
    run.params["lr"] = "7"
    with pytest.raises(ValueError, match=r"run a: lr is 0\.\d+ in its stored config.yaml and 7"):
        check_settings(run, config)


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_weights_that_the_store_lost_are_no_agreement(
    tmp_path: Path, content: bytes | None
) -> None:
    run = Run(make_run(tmp_path, "a"))
    deliver(tmp_path, run.folder)
    reader = Reader(Target.local(tmp_path))
    then = reader.run("a")
    if content is not None:
        (tmp_path / "best.safetensors").write_bytes(content)
        reader.attach(then, [tmp_path / "best.safetensors"], "weights")
    (tmp_path / "files").mkdir()
    agreement = compare_weights(reader, then, tmp_path / "files", run)
    assert not agreement.equal
    assert "missing or damaged" in agreement.what
