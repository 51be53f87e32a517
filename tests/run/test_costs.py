"""Which costs a sweep can be compared by."""

from pathlib import Path

import pytest

from harness.job.machine import tells_energy
from harness.run import costs
from harness.runfolder.config import ConfigError
from tests.conftest import RUN, Command, composed, small


def test_what_the_built_in_trainer_records_is_known() -> None:
    config = composed("metrics=[top2_error]")
    costs.check(["parameters", "time/epoch_s", "val/top2_error", "train/loss:max"], config)
    with pytest.raises(ConfigError) as caught:
        costs.check(["parameters", "time/epoch"], config)
    assert str(caught.value).startswith(
        "objective=[val/error,parameters,time/epoch]: time/epoch: expected one of parameters, "
    )
    assert str(caught.value).endswith("did you mean 'time/epoch_s'?")
    with pytest.raises(ConfigError, match=r"val/top2_error: expected one of"):
        costs.check(["val/top2_error"], composed())


def test_energy_is_a_cost_where_the_machine_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    energy = ["parameters", "machine/energy_j"]
    monkeypatch.setattr(costs, "tells_energy", lambda: True)
    costs.check_energy(energy)
    monkeypatch.setattr(costs, "tells_energy", lambda: False)
    costs.check_energy(["machine/cpu_s"])
    with pytest.raises(ConfigError, match=r"energy_j: the energy counters of this machine"):
        costs.check_energy(energy)


def test_energy_is_refused_before_anything_is_trained(command: Command, idx_folder: Path) -> None:
    sweep = (RUN, "-m", *small(idx_folder), "lr=0.1,0.2", "objective=[val/error,machine/energy_j]")
    done = command(*sweep, "--dry-run")
    if tells_energy():
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = command(*sweep, "hydra/sweeper=optuna")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "machine/energy_j: the energy counters of this machine" in done.stderr
