"""What a training takes: counted from its beginning, over all its processes, and if known."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.job import machine
from harness.job.machine import Meter
from harness.runfolder import optional
from harness.runfolder.history import History
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.store import Store
from tests.conftest import RUN, Command, histories, new_run, only_folder, small
from tests.job.test_training_run import DATA, TrainingRun

BURN_S = 0.4
TRAINER = f"""
import os, signal, subprocess, sys, time
from dataclasses import dataclass
import numpy as np

@dataclass
class Settings:
    megabytes: int = 0
    killed_by: int = 0
    is_elsewhere: bool = False

def burn():
    until = time.process_time() + {BURN_S}
    while time.process_time() < until:
        pass

def fit(settings: Settings, run):
    held = np.ones(settings.megabytes * 125_000)
    for epoch in run.epochs():
        if settings.is_elsewhere:
            subprocess.run([sys.executable, "-c", "import own; own.burn()"], check=True)
        else:
            burn()
        if settings.killed_by and epoch == 3 and not run.restored:
            os.kill(os.getpid(), settings.killed_by)
        run.log(epoch, {{"val/error": 0.5}}, checkpoint=lambda folder: None)
    run.final({{"test/error": 0.5}})
"""
WRAP = 262_143_328_850  # of common processors, in microjoules


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(TRAINER)
    return tmp_path


def own(folder: Path, *more: str) -> tuple[str, ...]:
    """Overrides of a run of the trainer above."""
    kept = [each for each in small(folder) if not each.startswith(("batch=", "width="))]
    return (*kept, "trainer=own:fit", *more)


def package(powercap: Path, number: int, energy_uj: int, wrap: int = WRAP) -> Path:
    """The counter of a processor package, as Linux has it; returns its file."""
    return domain(powercap / f"intel-rapl:{number}", f"package-{number}", energy_uj, wrap)


def domain(folder: Path, name: str, energy_uj: int, wrap: int = WRAP) -> Path:
    folder.mkdir(parents=True)
    for key, value in (("name", name), ("max_energy_range_uj", wrap), ("energy_uj", energy_uj)):
        (folder / key).write_text(f"{value}\n")
    return folder / "energy_uj"


def begun(powercap: Path, earlier: dict[str, float] | None = None) -> Meter:
    meter = Meter(powercap)
    meter.begin(earlier)
    return meter


def spin(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_cpu_seconds_begin_with_the_training(tmp_path: Path) -> None:
    spin(0.3)
    burned = [sys.executable, "-c", f"import time\nwhile time.process_time() < {BURN_S}: pass"]
    subprocess.run(burned, check=True)  # it is none of the training
    meter = begun(tmp_path)
    assert meter.totals()["cpu_s"] < 0.1
    spin(0.3)
    assert 0.3 <= meter.totals()["cpu_s"] < 0.5
    subprocess.run(burned, check=True)
    assert 0.3 + BURN_S <= meter.totals()["cpu_s"] < 0.5 + BURN_S + 0.2


def test_before_its_beginning_a_training_took_nothing(tmp_path: Path) -> None:
    assert Meter(tmp_path).totals() == {}


MEMORY = """
from pathlib import Path
from harness.job.machine import Meter
import subprocess, sys
import numpy as np
meter = Meter(Path("none"))
meter.begin(None)
before = meter.totals()["peak_memory_mb"]
{}
print(before, meter.totals()["peak_memory_mb"])
"""


def peaks(what: str, megabytes_of_parent: int = 0) -> tuple[float, float]:
    """Peak memory before and after a statement in a process of its own."""
    parent = f"import numpy, subprocess, sys; held = numpy.ones({megabytes_of_parent} * 125_000)\n"
    child = f"subprocess.run([sys.executable, '-c', {MEMORY.format(what)!r}], check=True)"
    done = subprocess.run(
        [sys.executable, "-c", parent + child], capture_output=True, text=True, check=True
    )
    before, after = map(float, done.stdout.split())
    return before, after


def test_what_is_done_before_a_restart_is_not_counted(tmp_path: Path) -> None:
    meter = begun(tmp_path, {"cpu_s": 10.0, "peak_memory_mb": 1.0})
    spin(0.3)
    meter.restart()
    assert 10 <= meter.totals()["cpu_s"] < 10.1
    unbegun = Meter(tmp_path)
    unbegun.restart()
    assert unbegun.totals() == {}


def test_an_array_shows_in_the_peak_also_when_it_is_gone() -> None:
    before, after = peaks("np.ones(25_000_000)")
    assert 190 < after - before < 215
    before, after = peaks("subprocess.run([sys.executable, '-c', 'bytearray(300_000_000)'])")
    assert 300 < after < 350, "the largest process counts, not their sum"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_memory_of_the_process_that_started_the_job_is_none_of_it() -> None:
    _, after = peaks("pass", megabytes_of_parent=400)
    assert 10 < after < 150


def test_energy_is_that_of_all_packages_and_survives_a_wrap(tmp_path: Path) -> None:
    first = package(tmp_path, 0, WRAP - 2_000_000)
    second = package(tmp_path, 1, 5_000_000)
    parts = [
        domain(tmp_path / "intel-rapl:0:0", "core", 0),
        domain(tmp_path / "intel-rapl:0:1", "dram", 0),
        domain(tmp_path / "intel-rapl:2", "psys", 0),
        domain(tmp_path / "intel-rapl-mmio:0", "package-0", 0),
    ]
    meter = begun(tmp_path)
    assert meter.totals()["energy_j"] == 0
    first.write_text(f"{WRAP - 500_000}\n")
    second.write_text("6_000_000\n".replace("_", ""))
    for part in parts:
        part.write_text("900000\n")
    assert meter.totals()["energy_j"] == 2.5
    for energy_uj, total in ((1_500_000, 4.5), (WRAP - 1_000_000, None), (1_000_000, None)):
        first.write_text(f"{energy_uj}\n")
        found = meter.totals()["energy_j"]
        assert total is None or found == total
    expected = 4.5 + (WRAP - 2_500_000) / 1e6 + 2.0
    assert found == pytest.approx(expected, abs=0.002), "more than one wrap in all"


def test_energy_that_cannot_be_read_is_left_out_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "energy_j" not in begun(tmp_path / "missing").totals(), "as in a virtual machine"
    assert not machine.tells_energy(tmp_path / "missing")
    package(tmp_path / "one", 0, 5)
    locked = package(tmp_path / "one", 1, 5)
    locked.unlink()
    locked.mkdir()  # reading it is an OSError for every user
    assert "energy_j" not in begun(tmp_path / "one").totals(), "half of it is no answer"
    counter = package(tmp_path / "two", 0, 5)
    meter = begun(tmp_path / "two")
    assert meter.totals()["energy_j"] == 0
    assert machine.tells_energy(tmp_path / "two")
    counter.write_text("\n")
    assert "energy_j" not in meter.totals()
    counter.write_text("1000000\n")
    totals = meter.totals()
    assert "energy_j" not in totals, "what was drawn meanwhile is not known"
    assert totals.keys() >= {"cpu_s", "peak_memory_mb"}
    assert capsys.readouterr().err == ""


def test_a_counter_that_may_have_wrapped_twice_tells_nothing(tmp_path: Path) -> None:
    package(tmp_path, 0, 5, wrap=60_000_000)  # 0.1 s at 600 W
    meter = begun(tmp_path)
    assert "energy_j" in meter.totals()
    time.sleep(0.15)
    assert "energy_j" not in meter.totals()


def test_a_resumed_training_adds_to_the_earlier_ones(tmp_path: Path) -> None:
    counter = package(tmp_path, 0, 0)
    earlier = {"cpu_s": 100.0, "energy_j": 50.0, "peak_memory_mb": 1e6}
    meter = begun(tmp_path, earlier)
    counter.write_text("3000000\n")
    totals = meter.totals()
    assert 100 <= totals.pop("cpu_s") < 100.1
    assert totals == {"energy_j": 53.0, "peak_memory_mb": 1e6}, "the largest peak"
    low = begun(tmp_path, {**earlier, "peak_memory_mb": 1.0}).totals()
    assert low["peak_memory_mb"] > 10


def test_what_an_earlier_training_did_not_tell_is_not_known_of_all(tmp_path: Path) -> None:
    package(tmp_path, 0, 0)
    assert begun(tmp_path, {"cpu_s": 1.0, "peak_memory_mb": 1.0}).totals().keys() == {
        "cpu_s", "peak_memory_mb"
    }  # fmt: skip
    assert begun(tmp_path, {}).totals() == {}, "of an earlier version"


def test_an_error_of_a_measurement_is_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional, "_warned", set())
    meter = begun(tmp_path, {"cpu_s": None, "peak_memory_mb": 1.0})  # type: ignore[dict-item]
    assert [meter.totals(), meter.totals()] == [{}, {}]
    error = capsys.readouterr().err
    assert error.startswith("warning: measuring the machine: TypeError: ")
    assert error.count("\n") == 1


def test_the_totals_are_in_every_record_and_the_metrics_in_the_last(tmp_path: Path) -> None:
    run = new_run(tmp_path, "epochs=2")
    with run.writing() as journal:
        training = TrainingRun(
            run, journal, lambda *_: None, dataset=DATA, threads=1, meter=begun(tmp_path)
        )
        for epoch in training.epochs():
            training.log(epoch, {"val/error": 0.5})
        training.final({"test/error": 0.5})
        training.finish()
    history = run.history()
    first, second = (record["machine"] for record in history.epochs)
    assert first.keys() == {"cpu_s", "peak_memory_mb"}
    assert first["cpu_s"] <= second["cpu_s"] <= history.final["machine/cpu_s"]
    assert history.final["machine/peak_memory_mb"] >= second["peak_memory_mb"]
    assert not [key for key in history.epochs[-1]["metrics"] if key.startswith("machine/")]


def test_a_run_of_an_earlier_version_is_resumed_without_them(tmp_path: Path) -> None:
    run = new_run(tmp_path, "epochs=2")
    with run.writing() as journal:
        journal.append("epoch", epoch=1, metrics={"val/error": 0.5})
    with run.writing() as journal:
        meter = begun(tmp_path, run.history().machine)
        training = TrainingRun(run, journal, lambda *_: None, dataset=DATA, threads=1, meter=meter)
        for epoch in training.epochs():
            training.log(epoch, {"val/error": 0.5})
        training.final({"test/error": 0.5})
        training.finish()
    assert run.history().final.keys() == {"test/error", "best/epoch", "best/val_error"}
    assert run.history().machine == {}


@pytest.mark.parametrize(
    ("number", "counted"),
    [(9, 4), (15, 5)],
    ids=["killed: what its epochs told", "interrupted: all of it"],
)
def test_a_resumed_run_has_the_sums_of_its_trainings(
    command: Command, project: Path, idx_folder: Path, number: int, counted: int
) -> None:
    """Epochs 1 and 2, and 3 in vain; then 3 and 4."""
    arguments = own(idx_folder, "tracking=none", "epochs=4", f"trainer.killed_by={number}")
    assert command(RUN, *arguments).returncode != 0
    run = Run(only_folder(project))
    killed = run.history()
    assert (killed.status, len(killed.epochs)) == ("KILLED", 2)
    done = command(RUN, "resume=last")
    assert done.returncode == 0, done.stderr
    final = run.history().final
    assert counted * BURN_S <= final["machine/cpu_s"] < (counted + 0.9) * BURN_S
    assert final["machine/peak_memory_mb"] >= killed.epochs[-1]["machine"]["peak_memory_mb"]


@pytest.mark.service
def test_the_whole_way_of_a_sweep(command: Command, project: Path, idx_folder: Path) -> None:
    """Two jobs that one server forks, one after the other, of an own trainer."""
    settings = ("trainer.megabytes=300,0", "epochs=2")
    done = command(RUN, "-m", *own(idx_folder, *settings))
    assert done.returncode == 0, done.stderr
    assert "machine/" not in done.stdout + done.stderr
    large, little = histories(project)
    assert 290 < took(large, "peak_memory_mb") - took(little, "peak_memory_mb") < 320
    assert 2 * BURN_S <= took(little, "cpu_s") < 3 * BURN_S, "without imports and the server's"
    store = Store(Target.local(project / "outputs"))
    for run in store.runs([store.experiment("idx")]):
        ((step, value, _),) = store.points(run.info.run_id)["machine/cpu_s"]
        assert (step, value) == (2, run.data.metrics["machine/cpu_s"])
    exported = command("harness", "export", "runs", "--to", "runs.csv")
    assert exported.returncode == 0, exported.stderr
    table = pd.read_csv(project / "runs.csv")
    assert list(table["machine/cpu_s"]) == [took(run, "cpu_s") for run in (large, little)]
    uri = str(Target.local(project / "outputs"))
    for where in ({"outputs": project / "outputs"}, {"uri": uri}):
        metrics = set(harness.curves(**where)["metric"])  # type: ignore[arg-type]
        assert metrics == {"val/error", "time/epoch_s"}
    metric = ("--metric", "machine/peak_memory_mb", "--no-attach", "--json")
    compared = command("harness", "compare", *metric)
    assert compared.returncode == 0, compared.stderr
    ranked = json.loads(compared.stdout)["settings"]
    assert [each["trainer.megabytes"] for each in ranked] == [0, 300]


def test_what_a_process_of_the_trainer_takes_counts(
    command: Command, project: Path, idx_folder: Path
) -> None:
    arguments = own(idx_folder, "tracking=none", "epochs=2", "trainer.is_elsewhere=true")
    done = command(RUN, *arguments)
    assert done.returncode == 0, done.stderr
    (run,) = histories(project)
    assert took(run, "cpu_s") >= 2 * BURN_S


def took(run: History, key: str) -> float:
    return run.final[f"machine/{key}"]
