"""Run folders of earlier versions and of a newer one, in the hands of this version's commands.

The folders beside this file were made by make.py.
"""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from harness.commands.clean import clean
from harness.commands.evaluate import run_on
from harness.commands.predict import predict
from harness.commands.reproduce import reproduce
from harness.commands.scores import Evaluation
from harness.commands.status import status
from harness.data import idx
from harness.data.sources import FILES
from harness.job.train import train
from harness.run import freeze, notices
from harness.run.compose import Job
from harness.run.prepared import Prepared
from harness.runfolder import folder as folders
from harness.runfolder import journal as journals
from harness.runfolder import keys, versions
from harness.runfolder.config import ConfigError
from harness.runfolder.plan import Plan, all_plans
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking.reading import Reader
from harness.tracking.recorded import Recorded, from_journal
from tests.conftest import ROOT, RUN, command_in, composed, histories, small
from tests.evolution.make import COMMITS, COMMON, FINISHED, INTERRUPTED, SEARCHED, SWEEP

OUTPUTS = Path("outputs")


@pytest.fixture(params=sorted(COMMITS))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def older(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a version's folder, which becomes the working directory."""
    folder = tmp_path / version
    shutil.copytree(ROOT / "tests/evolution" / version, folder)
    monkeypatch.chdir(folder)
    versions._named.clear()
    return folder


def finished() -> Run:
    (run,) = (r for r in folders.all_runs(OUTPUTS) if "optimizer=momentum" in r.history().name)
    return run


def interrupted() -> Run:
    (run,) = (r for r in folders.all_runs(OUTPUTS) if "optimizer=adam" in r.history().name)
    return run


def swept() -> tuple[Plan, list[Run]]:
    (plan,) = all_plans(OUTPUTS)
    return plan, plan.runs(OUTPUTS)


def invoke(command: Any, *arguments: str) -> str:
    """The output of a command that succeeds."""
    done = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_status_lists_the_runs_and_the_sweep(older: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = invoke(status)
    plan, runs = swept()
    for each in (finished(), interrupted(), *runs):
        assert each.id in text
    assert plan.id in text
    assert re.findall("FINISHED|KILLED", text) == ["KILLED"] + ["FINISHED"] * 3, "newest first"
    assert caplog.messages == [], "everything is known"
    assert [history.unknown for history in histories(older)] == [()] * 4


def test_evaluate_gives_the_error_that_was_recorded(older: Path) -> None:
    for run in (finished(), *swept()[1]):
        evaluation = run_on(OUTPUTS, run.id, [])
        assert evaluation.error == run.metrics["test/error"]
        assert evaluation.loss == pytest.approx(run.metrics["test/loss"], rel=1e-4)


@pytest.mark.parametrize("version", SEARCHED, indirect=True)
def test_a_search_is_listed_and_its_trials_are_evaluated(older: Path) -> None:
    search = Path("search")
    text = invoke(status, "--outputs", str(search))
    (plan,) = all_plans(search)
    assert plan.id in text
    assert "3/3" in text
    trials = plan.runs(search)
    assert len({run.config.lr for run in trials}) == 3
    for run in trials:
        assert run.id in text
        evaluation = run_on(search, run.id, [])
        assert isinstance(evaluation, Evaluation)
        assert evaluation.error == run.metrics["test/error"]


def test_predict_reads_a_picture(older: Path) -> None:
    images = idx.read(older / "idx" / FILES[2])
    picture = 255 - images[2].repeat(5, axis=0).repeat(5, axis=1)  # as ink on paper
    Image.fromarray(picture).save("picture.png")
    text = invoke(predict, "picture.png", "--run", finished().id)
    assert re.search(r"picture\.png +[0-3] ", text), text


def test_an_interrupted_run_continues_from_its_checkpoint(older: Path) -> None:
    run = interrupted()
    before = run.history().epochs
    checkpoints = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    newest = int(re.sub(r"\D", "", checkpoints[-1]))
    assert 0 < newest < 16
    assert train(run) is RunStatus.FINISHED
    history = run.history()
    assert [each["epoch"] for each in history.epochs] == list(range(1, 17))
    assert history.epochs[: len(before)] == before, "not trained again"
    same = composed(*COMMON, *INTERRUPTED)
    (prepared,) = freeze.prepare([Job("again", {}, same)])
    again = freeze.freeze_run(prepared, [])
    assert train(again) is RunStatus.FINISHED
    for key in ("train/loss", "val/loss"):
        now = again.history().curve(key)
        np.testing.assert_allclose(history.curve(key), now, rtol=1e-3)  # as never interrupted


def test_a_damaged_checkpoint_of_an_earlier_version_is_skipped(
    older: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = interrupted()
    newest = max((run.folder / "checkpoints").iterdir())
    if newest.is_dir():  # since 0.2
        newest = max(newest.iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    assert train(run) is RunStatus.FINISHED
    assert len(run.history().epochs) == 16
    assert any("taking an older checkpoint" in message for message in caplog.messages)


def test_clean_removes_the_checkpoints_of_finished_runs(older: Path) -> None:
    invoke(clean)
    assert [list((run.folder / "checkpoints").iterdir()) for run in swept()[1]] == [[], []]
    assert len(list((interrupted().folder / "checkpoints").iterdir())) > 1


def sweep_jobs() -> list[Prepared]:
    lines = [line for line in SWEEP if not line.startswith(("-m", "lr="))]
    jobs = [
        Job(f"lr={lr}", {"lr": lr}, composed(*COMMON, *lines, f"lr={lr}")) for lr in ("0.1", "0.2")
    ]
    return freeze.prepare(jobs)


def test_a_repeated_sweep_trains_again_and_says_why(
    older: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    notices.say.cache_clear()
    before, runs = swept()
    plan = freeze.freeze_sweep(sweep_jobs(), list(SWEEP), fresh=False)
    assert not set(plan.runs(OUTPUTS)) & set(runs)
    assert plan.id != before.id
    told = capsys.readouterr().err
    assert told.startswith(
        f"2 of 2 new jobs were trained before with other source (commit {COMMITS[version]}, 20"
    )
    assert told.endswith("): lr=0.1, lr=0.2; training again; accept=source keeps those runs\n")


def test_a_repeated_sweep_accepts_the_runs_of_an_earlier_version(older: Path) -> None:
    runs = swept()[1]
    plan = freeze.freeze_sweep(sweep_jobs(), list(SWEEP), fresh=False, accept=True)
    assert plan.runs(OUTPUTS) == runs
    assert all(run.is_finished for run in runs)


def test_a_run_with_another_objective_is_not_what_an_earlier_version_trained(older: Path) -> None:
    _, runs = swept()
    jobs = [replace(each.job.config, objective="val/loss") for each in sweep_jobs()]
    prepared = freeze.prepare([Job("lr", {}, each) for each in jobs])
    plan = freeze.freeze_sweep(prepared, list(SWEEP), fresh=False, accept=True)
    assert not set(plan.runs(OUTPUTS)) & set(runs)


def renew(run: Run, **added: object) -> None:
    """Add settings of a newer version to a run, in its config.yaml and its journal."""
    path = run.folder / "config.yaml"
    content = yaml.safe_load(path.read_text())
    for key, value in added.items():
        root, _, option = key.partition(".")
        if option:
            content[root][option] = value
        else:
            content[root] = value
    text = yaml.safe_dump(content)
    path.write_text(text)
    records = journals.read(run.journal)[0]
    records[0]["params"] |= added
    records[0]["config_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    run.journal.write_bytes(b"".join(map(journals.encode, records)))


@pytest.mark.parametrize("version", ["0.2-dev"])
def test_runs_of_a_newer_version_are_read_with_one_warning(older: Path) -> None:
    """The warning is on standard error, as of every command."""
    for run in folders.all_runs(OUTPUTS):
        renew(run, **{"optimizer.newkey": 1, "gamma": 2})
    harness = command_in(older)
    for arguments in (["status"], ["evaluate", finished().id], ["clean", "--dry-run"]):
        done = harness("harness", *arguments)
        assert done.returncode == 0, done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert re.fullmatch(
            r"outputs/runs/[\w-]+/(journal\.jsonl|config\.yaml): a newer version of the harness "
            r"wrote (optimizer\.newkey, gamma|gamma, optimizer\.newkey), which this version "
            "does not know; they are ignored",
            lines[0],
        )
    done = harness(RUN, f"resume={interrupted().id}")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {interrupted().journal}: a newer version of the harness wrote")
    assert last.endswith(
        "optimizer.newkey, gamma, which this version does not know; train it with the newer one"
    )
    assert interrupted().status is RunStatus.KILLED


class Stored(Reader):
    """What a store has of the local runs."""

    def __init__(self, target: Target) -> None:
        pass

    def run(self, run_id: str) -> Recorded:
        return from_journal(folders.open_run(OUTPUTS, run_id))

    def fetch(self, run: Recorded, path: str, into: Path) -> Path:
        return Path(run.location) / path

    def add_curves(self, runs: Iterable[Recorded], keys: Iterable[str]) -> None:
        for run in runs:
            run.curves.update({key: np.array([run.final[key]]) for key in {*keys} - {*run.curves}})


def test_a_reproduction_has_the_best_epoch_of_the_version_that_trained_the_run(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs 2, 3 and 4 are equal; the earliest was the best."""
    monkeypatch.setattr(import_module("harness.commands.reproduce"), "Reader", Stored)
    run = finished()
    assert run.history().curve("val/error")[1:] == [0, 0, 0]
    CliRunner().invoke(reproduce, [run.id])  # another processor may round differently
    again = folders.all_runs(OUTPUTS)[-1]
    assert again.is_finished
    assert again.metrics["best/epoch"] == run.metrics["best/epoch"] == 2
    assert (again.ties, versions.ties(versions.SCHEMA)) == ("earliest", "latest")


@pytest.mark.parametrize("version", ["0.2-dev"])
def test_a_run_of_a_newer_version_is_not_reproduced(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished()
    renew(run, **{"optimizer.newkey": 1})
    monkeypatch.setattr(import_module("harness.commands.reproduce"), "Reader", Stored)
    done = CliRunner().invoke(reproduce, [run.id])
    assert done.exit_code == 2
    last = done.output.splitlines()[-1]
    assert "config.yaml: a newer version of the harness wrote optimizer.newkey" in last
    assert last.endswith("which this version does not know; train it with the newer one")
    assert len(folders.all_runs(OUTPUTS)) == 4


def test_a_sweep_does_not_continue_a_run_of_a_newer_version(
    tmp_path: Path, idx_folder: Path
) -> None:
    config = replace(composed(*small(idx_folder)), outputs=str(tmp_path))
    prepared = freeze.prepare([Job("default", {}, config)])
    (run,) = freeze.freeze_sweep(prepared, [], fresh=False).runs(tmp_path)
    renew(run, gamma=1)
    with pytest.raises(
        ConfigError, match="wrote gamma, which this version does not know; train it with"
    ):
        freeze.freeze_sweep(prepared, [], fresh=False)


@pytest.mark.service
def test_every_command_takes_the_runs_of_an_earlier_version(older: Path, version: str) -> None:
    """With a real store, in the order in which somebody who upgrades would type them."""
    harness, runs = command_in(older), folders.all_runs(OUTPUTS)
    plan = swept()[0]

    def run(module: str, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = harness(module, *arguments)
        assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    assert "4 of 4 runs delivered in full" in run("harness", "sync").stdout
    assert f"Comparison of sweep {plan.id}" in run("harness", "compare").stdout
    assert "idx@champion points to it" in run("harness", "register", finished().id).stdout
    check_reproduced(harness("harness", "reproduce", finished().id))

    run(RUN, f"resume={interrupted().id}")
    assert interrupted().is_finished

    accepted = run(RUN, *COMMON, *SWEEP, "accept=source").stdout
    assert accepted.count("finished before as") == 2
    repeated = run(RUN, *COMMON, *SWEEP)
    assert f"with other source (commit {COMMITS[version]}" in repeated.stderr
    new = [each for each in folders.all_runs(OUTPUTS) if each not in runs]
    tags = [each.create["tags"] for each in new]
    assert sum("sweep" in each for each in tags) == 2, "trained again"

    both = run("harness", "compare", "idx")
    assert "2 run(s) repeat a seed of the same setting" in both.stdout + both.stderr
    assert "6 of 6 runs delivered in full" in run("harness", "sync").stdout


def check_reproduced(done: subprocess.CompletedProcess[str]) -> None:
    """Another processor than that of the fixtures may round differently."""
    if done.returncode == 0:
        assert "reproduced to the last bit" in done.stdout
        return
    found = re.search(r"differs by up to ([\d.e+-]+);", done.stderr)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < 1e-3


def test_the_fixtures_are_those_of_the_script(older: Path) -> None:
    run = finished()
    same = composed(*COMMON, *FINISHED)
    assert run.config == same
    assert keys.subject(run.create["params"], "")["settings"]["epochs"] == 4
