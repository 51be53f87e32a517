"""Runs of two machines in one folder, by a copy of the folder and by a pack.

Covers: commands/pack.py, runfolder/merging.py, runfolder/pack.py
"""

import json
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness.runfolder import merging, pack, removed
from harness.runfolder.about import About
from harness.runfolder.folder import all_runs, open_run
from harness.runfolder.plan import Plan, SweepJob, load_plan, saved_plans
from harness.runfolder.run import WEIGHTS, Run
from harness.runfolder.target import Target
from harness.tracking.store import Store
from tests.conftest import Command, new_run, record_training
from tests.tracking.conftest import fresh_store

SWEEP = "xaaaaaaaaa"
SAID = About()


def save(outputs: Path, runs: dict[str, Run], about: About = SAID, name: str = SWEEP) -> None:
    jobs = tuple(SweepJob(run.id, key, {"seed": key}, key) for key, run in runs.items())
    Plan(name, ("-m",), jobs, about=about).save(outputs)


def trained(outputs: Path, seed: int, *, status: str | None = "FINISHED") -> Run:
    run = new_run(outputs, f"seed={seed}", "tracking=none", name=f"seed={seed}")
    record_training(run, 0.5, 0.25, status=status)
    (run.folder / "environment.txt").write_text(f"machine of {outputs.name}")
    run.add_artifacts(["environment.txt"])
    return run


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Seeds 1 and 2 of a sweep, of which the second did not finish here."""
    outputs = tmp_path / "ours"
    runs = {"1": trained(outputs, 1), "2": trained(outputs, 2, status="KILLED")}
    save(outputs, runs, About(name="pilot"))
    return outputs


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Seeds 2 and 3 of the same sweep, and a run by itself."""
    outputs = tmp_path / "theirs"
    save(outputs, {"2": trained(outputs, 2), "3": trained(outputs, 3)}, About(note="of theirs"))
    trained(outputs, 9)
    (outputs / "reports" / SWEEP).mkdir(parents=True)
    (outputs / "reports" / SWEEP / "index.html").write_text("report")
    return outputs


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_runs_and_sweeps_are_joined(ours: Path, theirs: Path) -> None:
    merged = merging.merge(ours, theirs)
    assert (len(merged.runs), merged.sweeps, merged.known, merged.refused) == (3, [SWEEP], 0, [])
    assert len(all_runs(ours)) == 5
    for run in all_runs(theirs):
        assert content(ours / "runs" / run.id) == content(run.folder)
    plan = load_plan(ours, SWEEP)
    runs = {job.key: Run(ours / "runs" / job.run) for job in plan.jobs}
    assert list(runs) == ["1", "2", "3"]
    assert all(run.is_finished for run in runs.values()), "of two runs of a job the finished one"
    assert plan.about == About(name="pilot", note="of theirs")
    assert len(harness.runs(SWEEP, outputs=ours)) == 3


def test_what_a_sweep_is_compared_by_is_taken_in(ours: Path, theirs: Path) -> None:
    replace(load_plan(theirs, SWEEP), costs=("parameters",)).save(theirs)
    assert merging.merge(ours, theirs).sweeps == [SWEEP]
    assert load_plan(ours, SWEEP).costs == ("parameters",)


def test_the_report_of_a_whole_sweep_is_taken_in(ours: Path, theirs: Path, tmp_path: Path) -> None:
    pack.write(tmp_path / "pack.zip", theirs, all_runs(theirs)[:2], "1")
    report = f"reports/{SWEEP}/index.html"
    with pack.opened(tmp_path / "pack.zip") as folder:
        merging.merge(tmp_path / "new", folder)
        merging.merge(ours, folder)
        assert (tmp_path / "new" / report).read_text() == "report"
        assert (ours / report).read_text() == "report"
        (ours / report).write_text("newer")
        merging.merge(ours, folder)
        assert (ours / report).read_text() == "newer"
        (all_runs(folder)[0].folder / "environment.txt").write_text("damaged")
        merged = merging.merge(tmp_path / "part", folder)
    assert (len(merged.runs), len(merged.refused)) == (1, 1)
    assert not (tmp_path / "part/reports").exists(), "it is of more runs than there are"
    assert not list(ours.glob("reports/.*"))


def test_a_sweep_whose_id_is_a_path_is_not_taken_in(
    ours: Path, theirs: Path, tmp_path: Path
) -> None:
    save(theirs, {"9": all_runs(theirs)[2]}, name="x")
    path = theirs / "sweeps/x.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content | {"id": "../../outside"}))
    (line,) = merging.merge(ours, theirs).refused
    assert line == "sweep '../../outside': expected an id that is no path"
    assert not list(tmp_path.glob("outside*"))


def test_a_removed_run_says_what_can_be_done(ours: Path, theirs: Path) -> None:
    merging.merge(ours, theirs)
    run = Run(ours / "runs" / all_runs(theirs)[0].id)
    removed.remove(ours, [run], ())
    (line,) = merging.merge(ours, theirs).refused
    back = f"python -m harness restore {run.id} --outputs {ours}"
    assert line == f"{run.id}: was removed here; `{back}` brings it back"
    removed.erase(ours, removed.removed_run(ours, run.id))
    (line,) = merging.merge(ours, theirs).refused
    gone = removed.place(ours) / removed.GONE
    assert line.startswith(f"{run.id}: was removed here for good, by `harness gc`; merge it into")
    assert f"remove its line from {gone}" in line
    assert "restore" not in line
    gone.write_text("")
    assert [each.id for each in merging.merge(ours, theirs).runs] == [run.id]


def test_a_removed_sweep_stays_removed_though_another_has_a_run_of_it(
    ours: Path, theirs: Path
) -> None:
    runs = {run.create["params"]["seed"]: run for run in all_runs(theirs)}
    save(theirs, {"3": runs[3], "9": runs[9]}, name="xbbbbbbbbb")
    assert len(merging.merge(ours, theirs).sweeps) == 2
    plan, kept = load_plan(ours, "xbbbbbbbbb"), content(ours / "sweeps")
    removed.remove(ours, [open_run(ours, runs[9].id)], [plan])
    merged = merging.merge(ours, theirs)
    back = f"python -m harness restore xbbbbbbbbb --outputs {ours}"
    assert merged.refused[1:] == [f"sweep xbbbbbbbbb: was removed here; `{back}` brings it back"]
    assert merged.refused[0].startswith(f"{runs[9].id}: was removed here; ")
    assert [each.id for _, each in saved_plans(ours)] == [SWEEP]
    removed.restore(ours, [removed.removed_run(ours, runs[9].id)], [plan])
    assert content(ours / "sweeps") == kept
    assert merging.merge(ours, theirs).refused == []


def test_merging_again_changes_nothing(ours: Path, theirs: Path) -> None:
    merging.merge(ours, theirs)
    before, plans = content(ours), list(saved_plans(ours))
    merged = merging.merge(ours, theirs)
    assert (merged.runs, merged.sweeps, merged.known, merged.refused) == ([], [], 3, [])
    assert (content(ours), list(saved_plans(ours))) == (before, plans)


def test_what_was_taken_in_from_a_read_only_folder_can_be_written_to(
    ours: Path, theirs: Path
) -> None:
    every = [theirs, *theirs.rglob("*")]
    for path in every:
        path.chmod(path.stat().st_mode & 0o555)
    merged = merging.merge(ours, theirs)
    for path in every:
        path.chmod(0o755)
    folders = [*(run.folder for run in merged.runs), ours / "reports" / SWEEP]
    assert len(folders) == 4
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            assert path.stat().st_mode & stat.S_IWUSR, path


def test_a_sweep_of_theirs_alone_keeps_its_place_in_time(ours: Path, theirs: Path) -> None:
    save(theirs, {"9": all_runs(theirs)[2]}, name="xbbbbbbbbb")
    ((saved, _),) = [each for each in saved_plans(theirs) if each[1].id == "xbbbbbbbbb"]
    assert merging.merge(ours, theirs).sweeps == [SWEEP, "xbbbbbbbbb"]
    assert (saved, "xbbbbbbbbb") in [(each, plan.id) for each, plan in saved_plans(ours)]


def test_a_run_that_went_on_there_is_taken_in(ours: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "copy"
    shutil.copytree(ours, theirs)
    _, unfinished = all_runs(theirs)
    record_training(unfinished, 0.125)
    merged = merging.merge(ours, theirs)
    assert ([run.id for run in merged.runs], merged.known) == ([unfinished.id], 1)
    assert Run(ours / "runs" / unfinished.id).is_finished
    assert list((ours / "runs").glob(".*-*")) == [], "nothing is left over"
    back = merging.merge(theirs, ours)
    assert (back.runs, back.known, back.refused) == ([], 2, [])


@pytest.mark.parametrize("words", [["clean"], ["merge", "none"]])
def test_a_run_that_a_killed_merge_put_aside_is_put_back(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, words: list[str]
) -> None:
    theirs = tmp_path / "copy"
    shutil.copytree(ours, theirs)
    _, run = all_runs(ours)
    open_run(theirs, run.id).add_tags({"a": "b"})
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name == f".{run.id}":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            merging.merge(ours, theirs)
    assert not run.folder.exists()
    for hidden in (ours / "runs").glob(".*"):
        os.utime(hidden, (0, 0))
    (tmp_path / "none/runs").mkdir(parents=True)
    command("harness", *words, "--outputs", str(ours))
    assert run.is_readable()
    merging.merge(ours, theirs)
    assert run.history().tags["a"] == "b"


def test_what_went_on_in_both_stays_as_it_is_here(ours: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "copy"
    shutil.copytree(ours, theirs)
    for outputs, error in ((ours, 0.25), (theirs, 0.125)):
        record_training(all_runs(outputs)[1], error)
    merged = merging.merge(ours, theirs)
    assert merged.runs == []
    (line,) = merged.refused
    assert line.endswith("has diverged: it continued in both folders; keeping ours")
    assert all_runs(ours)[1].metrics["best/val_error"] == 0.25


def test_what_is_damaged_live_or_removed_is_not_taken_in(ours: Path, theirs: Path) -> None:
    damaged, live, gone = all_runs(theirs)
    (damaged.folder / "environment.txt").write_text("changed")
    removed.place(ours).mkdir()
    (removed.place(ours) / removed.GONE).write_text(json.dumps({"run": gone.id}) + "\n")
    with live.lock():
        merged = merging.merge(ours, theirs)
    assert merged.runs == []
    assert [line.partition(": ")[0] for line in merged.refused] == [damaged.id, live.id, gone.id]
    assert "environment.txt has 7 bytes instead of" in merged.refused[0]
    assert len(all_runs(ours)) == 2


def test_a_pack_has_all_but_spare_checkpoints(theirs: Path, tmp_path: Path) -> None:
    """Of two finished runs, one has its model only in a checkpoint; a third is not finished."""
    runs = [*all_runs(theirs), trained(theirs, 4, status="KILLED")]
    (runs[0].folder / "weights").mkdir()
    runs[0].weights.write_text("model")
    runs[0].add_artifacts([WEIGHTS])
    for run in (runs[0], runs[2], runs[3]):
        for epoch in (1, 2):
            place = run.folder / f"checkpoints/epoch-{epoch:06d}"
            place.mkdir(parents=True)
            (place / "state").write_text("much")
    (runs[0].folder / "delivered.json").write_text("{}")
    pack.write(tmp_path / "pack.zip", theirs, runs, "1")
    names = zipfile.ZipFile(tmp_path / "pack.zip").namelist()
    assert f"sweeps/{SWEEP}.json" in names
    assert f"reports/{SWEEP}/index.html" in names
    assert not [name for name in names if "delivered" in name]
    assert {name for name in names if "checkpoints" in name} == {
        f"runs/{run.id}/checkpoints/epoch-00000{epoch}/state"
        for run, epoch in ((runs[2], 2), (runs[3], 1), (runs[3], 2))
    }
    with pack.opened(tmp_path / "pack.zip") as folder:
        assert content(folder / "runs" / runs[1].id) == content(runs[1].folder)
        assert content(folder / "runs" / runs[3].id) == content(runs[3].folder)


def test_a_pack_is_merged_by_commands(
    command: Command, ours: Path, theirs: Path, tmp_path: Path
) -> None:
    done = command("harness", "pack", SWEEP, "--outputs", "theirs", "--to", "out/two.zip")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"out/two.zip: 2 run\(s\), \d+\.\d MB\n", done.stdout)
    done = command("harness", "merge", "out/two.zip", "--outputs", "ours")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "out/two.zip: took in 2 run(s), 1 sweep(s); 0 known already\n"
    done = command("harness", "merge", "theirs", "--outputs", "ours")
    assert done.stdout == "theirs: took in 1 run(s); 2 known already\n"
    with all_runs(theirs)[0].lock():
        done = command("harness", "merge", "theirs", "--outputs", "ours")
    assert done.returncode == 1
    assert done.stderr.startswith("not taken in: ")


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_what_a_killed_merge_took_in_is_delivered_by_the_next(
    command: Command, tmp_path: Path
) -> None:
    runs = [record_training(new_run(tmp_path / "theirs"), 0.5) for _ in range(2)]
    joined = tmp_path / "joined"
    fresh_store(joined)
    assert len(merging.merge(joined, tmp_path / "theirs").runs) == 2, "not delivered yet"
    done = command("harness", "merge", "theirs", "--outputs", "joined")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "theirs: took in 0 run(s); 2 known already\n"
    merged = merging.merge(joined, tmp_path / "theirs")
    assert (merged.known, merged.left) == (2, [])
    client = Store(Target.local(joined)).client
    stored = client.search_runs(["1"])
    assert {run.data.tags["run.id"] for run in stored} == {run.id for run in runs}


def test_a_packed_sweep_brings_no_part_of_another(
    command: Command, theirs: Path, tmp_path: Path
) -> None:
    """Sweeps that share runs: one more run makes it another one, which would be incomplete."""
    _, third, alone = all_runs(theirs)
    save(theirs, {"3": third, "9": alone}, name="xccccccccc")
    save(theirs, {"3": third}, name="xddddddddd")
    for words, sweeps in (([SWEEP], 2), ([third.id], 3)):
        done = command("harness", "pack", *words, "--outputs", "theirs", "--to", f"{sweeps}.zip")
        assert (done.returncode, done.stderr) == (0, "")
        with pack.opened(tmp_path / f"{sweeps}.zip") as folder:
            assert len(list((folder / "sweeps").iterdir())) == sweeps, words


def tampered(path: Path, name: str, change: str) -> None:
    """Change a pack: a file's content, or the name under which it is listed."""
    archive = zipfile.ZipFile(path)
    files = {each: archive.read(each) for each in archive.namelist()}
    if change == "content":
        files[name] += b"more"
    else:
        about = json.loads(files[pack.CONTENTS])
        about["files"][change] = about["files"].pop(name)
        files[pack.CONTENTS] = json.dumps(about).encode()
        files[change] = files.pop(name)
    with zipfile.ZipFile(path, "w") as writer:
        for each, text in files.items():
            writer.writestr(each, text)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("content", "is damaged"),
        ("../../outside", "'../../outside' is not a file in it"),
        ("/tmp/outside", "'/tmp/outside' is not a file in it"),
    ],
)
def test_a_pack_that_was_changed_is_refused(
    ours: Path, theirs: Path, tmp_path: Path, change: str, why: str
) -> None:
    path, run = tmp_path / "pack.zip", all_runs(theirs)[0]
    pack.write(path, theirs, [run], "1")
    tampered(path, f"runs/{run.id}/environment.txt", change)
    with pytest.raises(ValueError, match="not a whole pack") as error, pack.opened(path):
        pass
    assert why in str(error.value)
    assert len(all_runs(ours)) == 2


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["merge", "nowhere"], "nowhere: is missing; expected an outputs folder or a pack"),
        (["merge", "."], ".: expected an outputs folder, with runs/ in it, or a pack"),
        (["merge", "ours"], "ours: is the folder itself; name another one"),
        (["merge", "text"], "text: not a whole pack of `harness pack`"),
        (["pack", "nonsense"], "'nonsense' is no run, sweep"),
        (["pack", "since=2999-01-01"], "there are no runs to pack"),
        (["pack", SWEEP, "--to", "text/a.zip"], "text: is a file; name a folder to write to"),
        (["pack", SWEEP, "--to", "."], ".: is a folder; name a file to write to"),
    ],
)
def test_bad_input_is_one_line(
    command: Command, ours: Path, tmp_path: Path, words: list[str], problem: str
) -> None:
    (tmp_path / "text").write_text("kept")
    done = command("harness", *words, "--outputs", "ours")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"format": "harness pack"}'])
def test_a_pack_with_other_contents_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(pack.CONTENTS, content)
    with pytest.raises(ValueError, match=r"pack.json .* lacks format or files"), pack.opened(path):
        pass


def changed_checksum(run: Run) -> str:
    lines = run.journal.read_bytes().splitlines(keepends=True)
    lines[2] = b"00000000" + lines[2][8:]
    run.journal.write_bytes(b"".join(lines))
    return "journal.jsonl: the record at byte"


def cut_journal(run: Run) -> str:
    content = run.journal.read_bytes()
    (run.folder / "delivered.json").write_text(json.dumps({"offset": len(content)}))
    run.journal.write_bytes(content[:-100])
    return "journal.jsonl lost records: expected at least"


def cut_artifact(run: Run) -> str:
    (run.folder / "environment.txt").write_text("cut")
    return "environment.txt has 3 bytes instead of 17"


def lost_artifact(run: Run) -> str:
    (run.folder / "environment.txt").unlink()
    return "environment.txt is missing"


def changed_config(run: Run) -> str:
    with (run.folder / "config.yaml").open("a") as file:
        file.write("# later\n")
    return "config.yaml"


def no_create_record(run: Run) -> str:
    run.journal.write_bytes(b"")
    return "journal.jsonl: expected a journal that starts with its create record"


@pytest.mark.parametrize(
    "damage",
    [
        changed_checksum,
        cut_journal,
        cut_artifact,
        lost_artifact,
        changed_config,
        no_create_record,
    ],
)
def test_only_whole_runs_are_packed(
    command: Command, theirs: Path, tmp_path: Path, damage: Callable[[Run], str]
) -> None:
    damaged, whole, _ = all_runs(theirs)
    why = damage(damaged)
    done = command("harness", "pack", SWEEP, "--outputs", "theirs")
    assert done.returncode == 1
    assert re.fullmatch(r"pack.zip: 1 of 2 run\(s\), \d+\.\d MB\n", done.stdout)
    (line,) = done.stderr.splitlines()
    assert line.startswith("not packed: ")
    assert damaged.id in line
    assert why in line
    with pack.opened(tmp_path / "pack.zip") as folder:
        assert [run.id for run in all_runs(folder)] == [whole.id]
    (tmp_path / "pack.zip").unlink()
    done = command("harness", "pack", damaged.id, "--outputs", "theirs")
    assert done.returncode in (1, 2)
    assert why in done.stderr
    assert not (tmp_path / "pack.zip").exists()


@pytest.mark.parametrize("damage", [changed_checksum, cut_artifact, no_create_record])
def test_what_merge_refuses_is_named_within_its_run(
    ours: Path, theirs: Path, damage: Callable[[Run], str]
) -> None:
    damaged = all_runs(theirs)[0]
    why = damage(damaged)
    (line,) = merging.merge(ours, theirs).refused
    assert line.startswith(f"{damaged.id}: {why}")
    assert str(theirs) not in line


@pytest.mark.service
def test_a_packed_run_is_reproduced_elsewhere(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "epochs=2", "width=8")
    assert command("harness.run", "-m", *own, "seed=1,2", "outputs=there").returncode == 0
    assert command("harness", "pack", "last", "--outputs", "there").returncode == 0
    shutil.rmtree(tmp_path / "there")
    done = command("harness", "merge", "pack.zip", "--outputs", "here")
    assert (done.returncode, done.stderr) == (0, "")
    run = all_runs(tmp_path / "here")[0]
    done = command("harness", "reproduce", run.id, "--outputs", "here")
    assert done.returncode == 0, done.stderr
    done = command("harness", "sync", "--outputs", "here")
    assert done.returncode == 0, done.stderr
    assert command("harness", "compare", "--outputs", "here").returncode == 0
