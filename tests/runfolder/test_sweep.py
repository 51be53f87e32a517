"""A sweep as Python users see it."""

from pathlib import Path

import pytest

from harness.runfolder.folder import Ambiguous
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.sweep import Sweep
from tests.conftest import new_run, record_training


def test_the_table_of_a_sweep(tmp_path: Path) -> None:
    runs = [new_run(tmp_path, f"batch={batch}", name=f"batch={batch}") for batch in (16, 32)]
    record_training(runs[0], 0.3, 0.2)
    record_training(runs[1], 0.4, status="FAILED", error="broken")
    jobs = [
        SweepJob(run.id, run.history().name, {"batch": str(batch)}, f"key{batch}")
        for run, batch in zip(runs, (16, 32), strict=True)
    ]
    plan = Plan("0123456789", ("-m", "batch=16,32"), tuple(jobs))
    plan.save(tmp_path)
    sweep = Sweep.open(tmp_path, "last")
    assert (sweep.id, sweep.runs, sweep.failed) == (plan.id, runs, runs[1:])
    assert repr(sweep) == f"Sweep('0123456789', 2 runs in {str(tmp_path)!r})"
    frame = sweep.frame()
    assert list(frame["batch"]) == [16, 32], "settings are numbers"
    assert list(frame["status"]) == ["FINISHED", "FAILED"]
    assert frame["best/val_error"].iloc[0] == 0.2


def test_a_sweep_is_found_by_a_prefix(tmp_path: Path) -> None:
    for sweep_id in ("0123", "01", "0222"):
        Plan(sweep_id, (), ()).save(tmp_path)
    assert Sweep.open(tmp_path, "012").id == "0123"
    assert Sweep.open(tmp_path, "01").id == "01", "the whole id"
    for prefix, names in (("0", "01, 0123, 0222"), ("02", "")):
        if names:
            with pytest.raises(Ambiguous, match=f"sweep '{prefix}' could be {names}; type more"):
                Sweep.open(tmp_path, prefix)
    with pytest.raises(ValueError, match="sweep '' is not in"):
        Sweep.open(tmp_path, "")


def test_an_unknown_sweep(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no sweep"):
        Sweep.open(tmp_path, "last")
    with pytest.raises(ValueError, match="sweep 'abc' is not in"):
        Sweep.open(tmp_path, "abc")
