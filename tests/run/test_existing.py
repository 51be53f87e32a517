"""Existing runs that jobs build on; more in test_freeze.py."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.run import existing, notices
from harness.run.compose import Job
from harness.run.prepared import Prepared
from harness.runfolder import config as configuration
from harness.runfolder import keys
from harness.runfolder.folder import all_runs
from harness.runfolder.schema import Config
from tests.conftest import DATASET, composed, new_run, record_training


@pytest.fixture(autouse=True)
def nothing_said_before() -> None:
    notices.say.cache_clear()


def wanted(config: Config, data: str, key: str) -> Prepared:
    """A job with this run key."""
    return Prepared(Job("", {}, config), key, {"sha256": data})


def trained(outputs: Path, key: str, *overrides: str) -> None:
    """A finished run of these settings with this key."""
    record_training(new_run(outputs, *overrides, run_key=key), 0.5)


def test_jobs_that_only_another_source_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, seed in (("old", 1), ("old2", 2), ("new3", 3)):
        trained(tmp_path, key, f"seed={seed}")
    trained(tmp_path, "old", "seed=4", "lr=0.1")
    reproduction = new_run(tmp_path, "seed=6", run_key="reproduction of x", reproduces="x")
    record_training(reproduction, 0.5)
    new_run(tmp_path, "seed=5", run_key="old5")  # not finished
    data = str(DATASET["sha256"])
    new = [wanted(composed(f"seed={seed}"), data, f"new{seed}") for seed in range(1, 7)]
    existing.retraining(all_runs(tmp_path), [])
    other = [replace(each, dataset={"sha256": "other data"}) for each in new]
    existing.retraining(all_runs(tmp_path), other)
    assert capsys.readouterr().err == ""
    existing.retraining(all_runs(tmp_path), new)
    told = capsys.readouterr().err
    assert told.startswith(
        "2 of 6 new jobs were trained before with other source (commit not known"
    )
    assert told.count("\n") == 1


def test_jobs_that_were_trained_on_other_data_of_the_same_place(
    tmp_path: Path, idx_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40")
    for seed in (1, 2):
        trained(tmp_path, f"old{seed}", f"seed={seed}", *own)
    new_run(tmp_path, "seed=3", *own, run_key="old3")  # not finished
    jobs = [
        wanted(composed(f"seed={seed}", *own, *more), "other data", f"new{seed}")
        for seed in (1, 2, 3, 4)
        for more in ((), ("dataset.label=elsewhere",))
    ]
    existing.retraining(all_runs(tmp_path), jobs[1::2])
    assert capsys.readouterr().err == ""
    existing.retraining(all_runs(tmp_path), jobs[::2])
    told = capsys.readouterr().err
    digest = str(DATASET["sha256"])[:8]
    assert told.startswith(
        f"2 of 4 new jobs were trained before on other data of dataset=idx (SHA-256 {digest}, 20"
    )
    assert told.endswith("; training again\n")
    assert told.count("\n") == 1


def test_a_run_of_an_older_version_has_no_known_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its settings lack a key that was added since: it is not the same job."""
    run = record_training(new_run(tmp_path, run_key="old"), 0.5)
    params = dict(run.history().params)
    assert params.pop("ema") == 0
    config = replace(composed(), outputs=str(tmp_path))
    now = configuration.leaves(config)
    assert keys.subject(params, "d") != keys.subject(now, "d") == keys.subject(now, "d")
    existing.retraining(all_runs(tmp_path), [wanted(config, "another digest", "new")])
    assert capsys.readouterr().err == ""
