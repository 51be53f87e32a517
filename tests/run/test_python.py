"""The commands from Python: what they return and raise, in a thread, and what is public."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import harness
from harness.runfolder.folder import all_runs
from tests.conftest import run_folders, small, wait_for


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run(here: Path, idx_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = harness.train(small(idx_folder, "epochs=2", "tracking=none"))
    assert run.status == "FINISHED"
    assert set(run.metrics) - {"machine/energy_j"} == {
        "test/loss", "test/error", "best/epoch", "best/val_error", "machine/cpu_s",
        "machine/peak_memory_mb", "model/parameters",
    }  # fmt: skip
    frame = run.frame()
    assert list(frame["epoch"]) == [1, 2]
    assert frame["val/error"].iloc[-1] == run.history().curve("val/error")[-1]
    assert "epoch 2/2" in capsys.readouterr().out
    assert harness.open() == run
    assert harness.open(run.id[:6]) == run


def starts(runs: list[harness.Run], prefix: str) -> bool:
    return any(run.id.startswith(prefix) for run in runs)


@pytest.mark.fault
def test_ctrl_c_in_a_terminal_stops_the_command_cleanly(here: Path) -> None:
    """Every process of the terminal gets it. A second one would end the command at once."""
    code = (
        "import harness, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "harness.train(['tracking=none', 'epochs=500'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: any(run.history().epochs for run in all_runs(here / "outputs")), 60)
    (command,) = psutil.Process(process.pid).children()
    assert os.getpgid(command.pid) != process.pid, "the signals may arrive as one"
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in stderr
    assert "interrupted again" not in stdout
    assert [run.history().status for run in all_runs(here / "outputs")] == ["KILLED"]


def test_a_sweep_in_a_thread(here: Path, idx_folder: Path) -> None:
    made: list[harness.Sweep] = []

    def work() -> None:
        arguments = small(idx_folder, "epochs=1", "tracking=none", "lr=0.1,3e38", "seed=1")
        arguments += ("name=pilot",)
        made.append(harness.sweep(arguments, quiet=True))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (sweep,) = made
    assert [run.status for run in sweep.runs] == ["FINISHED", "FAILED"]
    assert sweep.failed == sweep.runs[1:]
    frame = sweep.frame()
    assert list(frame["lr"]) == [0.1, 3e38]
    assert list(frame["status"]) == ["FINISHED", "FAILED"]
    opened = harness.open(sweep.id)
    assert isinstance(opened, harness.Sweep)
    assert opened.id == sweep.id
    prefix = next(sweep.id[:n] for n in range(1, 99) if not starts(sweep.runs, sweep.id[:n]))
    assert harness.open(prefix) == harness.open("pilot") == harness.open("last~0") == sweep
    assert harness.open("params.lr < 1") == sweep.runs[0]
    with pytest.raises(ValueError, match=r"has 2 runs; harness.runs\("):
        harness.open("params.width > 1")
    with pytest.raises(ValueError, match=r"^'' is no run, sweep, name or"):
        harness.open("")


@pytest.mark.fault
def test_the_command_stops_when_its_caller_is_killed(here: Path, idx_folder: Path) -> None:
    """As a notebook's kernel that is restarted."""
    arguments = small(idx_folder, "epochs=1000000", "tracking=none", "seed=1,2")
    code = f"import harness; harness.sweep({arguments!r}, quiet=True)"
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=here)
    wait_for(lambda: trained(here))
    caller.kill()
    caller.wait()
    wait_for(lambda: trained(here)[0].status == "KILLED")
    wait_for(lambda: not trained(here)[0].is_live())


def trained(here: Path) -> list[harness.Run]:
    """The runs that have an epoch."""
    runs = map(harness.Run, run_folders(here / "outputs"))
    return [run for run in runs if run.is_readable() and run.history().epochs]


def test_what_is_raised_is_not_printed_as_well(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"^width=0: expected"):
        harness.train(["width=0"])
    assert capsys.readouterr().err == ""


def test_what_goes_wrong_is_raised(here: Path, idx_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^width=0: expected a whole number of at least 1"):
        harness.train([*small(idx_folder), "width=0"], quiet=True)
    with pytest.raises(ValueError, match=r"^--config-dir nowhere: there is no such folder"):
        harness.train(config_dir="nowhere", quiet=True)
    with pytest.raises(ValueError, match=r"harness\.sweep runs a sweep, without -m"):
        harness.train(["-m", "width=1,2"])
    with pytest.raises(ValueError, match=r"^width=8,16: several values are .*; use harness\.sweep"):
        harness.train(["width=8,16"])
    for call in (harness.train, harness.sweep):
        for text in ("--help", "--dry-run", "--cfg=job"):
            with pytest.raises(ValueError, match=f"^{text}: trains nothing, and is not available"):
                call(["width=8", text])
    with pytest.raises(ValueError, match=r"^harness\.open\(5\): expected 'last', or the id"):
        harness.open(5)  # type: ignore[arg-type]  # a wrong type
    for wrong, found in (([("width", 8)], r"\('width', 8\)"), ([8], "8"), ([None], "None")):
        for call in (harness.train, harness.sweep):
            with pytest.raises(ValueError, match=f"^{found}: expected a text such as 'width=8'"):
                call(wrong)
    with pytest.raises(ValueError, match=r"expected a list of overrides such as .*, found \{"):
        harness.train({"width": 8})  # type: ignore[arg-type]  # a wrong type
    with pytest.raises(ValueError, match=r"expected a list of overrides, .*\['width=3'\]"):
        harness.train("width=3")
    with pytest.raises(harness.TrainingFailed, match="the training loss is nan") as caught:
        harness.train(small(idx_folder, "lr=3e38", "tracking=none", "epochs=2"), quiet=True)
    assert caught.value.run.status == "FAILED"
    with pytest.raises(ValueError, match=r"^'zzz' is no run, sweep, name or"):
        harness.open("zzz")


def test_the_promised_names_are_completed() -> None:
    assert {*harness.__all__, "__version__"} <= {*dir(harness)}
    assert all(hasattr(harness, name) for name in dir(harness))


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys, harness; "
        "assert not {'numpy', 'hydra', 'mlflow'} & set(sys.modules); "
        "print([hasattr(harness, name) for name in harness.__all__])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([True] * len(harness.__all__))
    assert not hasattr(harness, "nothing")
