"""Sweeps in files: their jobs, their names, what is left out, and what is refused.

Covers: harness/run/sweep_jobs.py
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.run import compose, conf, overrides, sweep_file, sweep_jobs
from harness.run.compose import Job
from harness.runfolder import optional
from harness.runfolder.config import ConfigError
from harness.runfolder.plan import all_plans
from tests.conftest import ROOT, RUN, Command, histories, small

Write = Callable[[str], None]
PAIRED = """\
seed: range(2)
grids:
  - optimizer: sgd
    lr: [0.1, 0.2]
  - optimizer: [adam, adamw]
    lr: [0.001, 2e-3]
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the text of the sweep `own`, in a folder that is searched first."""
    (tmp_path / "conf/sweep").mkdir(parents=True)
    roots = [tmp_path / "conf", conf.conf_path()]
    monkeypatch.setattr(sweep_file, "conf_roots", lambda: roots)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(optional, "_warned", set())

    def write(text: str) -> None:
        (tmp_path / "conf/sweep/own.yaml").write_text(text)

    return write


def expand(*texts: str) -> list[Job]:
    return sweep_jobs.expand("own", overrides.parse(list(texts)).settings)


def names(*texts: str) -> list[str]:
    return [job.name for job in expand(*texts)]


def test_each_optimizer_with_its_own_learning_rates(write: Write) -> None:
    write(PAIRED)
    jobs = expand()
    assert [job.name for job in jobs] == [
        f"seed={seed},optimizer={name},lr={lr}"
        for optimizers, rates in ((["sgd"], ["0.1", "0.2"]), (["adam", "adamw"], ["0.001", "2e-3"]))
        for seed in (0, 1)
        for name in optimizers
        for lr in rates
    ]
    assert jobs[-1].swept == {"seed": "1", "optimizer": "adamw", "lr": "2e-3"}
    assert (jobs[-1].config.optimizer.name, jobs[-1].config.lr) == ("adamw", 0.002)


def test_a_block_is_what_the_same_overrides_are_on_the_command_line(write: Write) -> None:
    write("grids:\n  - {batch: [16, 32], width: [[8, 4], [8]], normalization: glob(m*)}\nseed: 2\n")
    typed = ["batch=16,32", "width=[8,4],[8]", "normalization=glob(m*)", "seed=2"]
    same = compose.expand(overrides.parse(typed).settings, sweep=True)
    assert [job.config for job in expand()] == [job.config for job in same]
    assert [job.name for job in expand()] == [
        job.name.replace(",normalization=minmax", "") for job in same
    ], "only what varies"


def test_a_recipe_has_its_own_overrides_and_a_block_wins_over_shared_keys(write: Write) -> None:
    write("epochs: 3\ngrids: [{experiment: smoke}, {experiment: quick, epochs: 2, width: 64}]\n")
    smoke, quick = expand()
    assert (smoke.config.width, smoke.config.epochs, smoke.config.dataset.num_train) == (
        32, 3, 2000,
    )  # fmt: skip
    assert (quick.config.width, quick.config.epochs, quick.config.optimizer.name) == (
        64, 2, "adam",
    )  # fmt: skip
    assert smoke.swept == {"epochs": "3", "experiment": "smoke", "width": "32"}
    assert quick.swept == {"epochs": "2", "experiment": "quick", "width": "64"}
    assert (smoke.name, quick.name) == (
        "epochs=3,experiment=smoke",
        "epochs=2,experiment=quick,width=64",
    )


def test_a_key_that_a_job_does_not_have(write: Write) -> None:
    write(
        "grids:\n  - {}\n".replace("{}", "lr: 0.1") + "  - {optimizer: adam, optimizer.beta1: 0.8}"
    )
    plain, adam = expand()
    assert plain.swept == {"optimizer": "sgd", "optimizer.beta1": "-", "lr": "0.1"}
    assert (plain.name, adam.name) == ("lr=0.1", "optimizer=adam,optimizer.beta1=0.8")


def test_the_command_line_applies_to_all_blocks_and_wins(write: Write) -> None:
    write(PAIRED)
    assert names("lr=0.01", "seed=1") == ["optimizer=sgd", "optimizer=adam", "optimizer=adamw"]
    assert {job.config.lr for job in expand("lr=0.01")} == {0.01}
    swept = names("seed=7", "batch=16,32")
    assert len(swept) == 12
    assert swept[:2] == ["optimizer=sgd,lr=0.1,batch=16", "optimizer=sgd,lr=0.1,batch=32"]


def test_equal_jobs_are_one_in_the_file_s_order(write: Write) -> None:
    write("grids: [{batch: [64, 16]}, {batch: [16, 32, 16.0]}, {batch: 64, lr: 0.2}]\n"
          .replace(", 16.0", ""))  # fmt: skip
    assert [job.config.batch for job in expand()] == [64, 16, 32]


def test_combinations_are_excluded(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        "grids: [{batch: [16, 32, 64], lr: [0.10, 0.2]}, {optimizer: adam}]\n"
        "exclude:\n"
        "  - {batch: [16, 32], lr: 0.1}\n"
        "  - {optimizer: adam}\n"  # a group that only one block gives
        "  - {batch: 64, depth: 1, lr: 0.2}\n"  # a setting that no block gives
        "  - {batch: 128}\n"
    )
    assert names() == ["batch=16,lr=0.2", "batch=32,lr=0.2", "batch=64,lr=0.10"]
    told = "warning: conf/sweep/own.yaml, exclude 4: matches no job\n"
    assert capsys.readouterr().err == told


def test_what_is_not_valid_can_be_excluded(write: Write) -> None:
    write("grids: [{width: [[8, 4], [8]], depth: [1, 2]}]\nexclude: [{width: [[8,4]], depth: 2}]\n")
    with pytest.raises(ConfigError, match=r"block 1: depth=2: width=\[8\] already gives 1 hidden"):
        expand()
    write("grids: [{width: [[8, 4], 8], depth: [1, 2]}]\nexclude: [{width: [[8, 4]], depth: 2}]\n")
    assert names() == ["width=[8,4],depth=1", "width=8,depth=1", "width=8,depth=2"]


DOCS = (ROOT / "docs/scaling.md").read_text()
FILE = "conf/sweep/own.yaml"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", f"{FILE}: expected grids: and a list of blocks, found none"),
        ("- a\n", f"{FILE}: expected grids: and a list of blocks, found none"),
        ("grid: []\n", "expected grids: and a list of blocks, found grid"),
        ("grids:\n", f"{FILE}: grids: expected a list of blocks, found nothing"),
        ("grids: []\n", f"{FILE}: grids: expected a list of blocks, found nothing"),
        ("grids: {lr: 1}\n", f"{FILE}: grids: expected a list of blocks, found {{'lr': '1'}}"),
        ("grids: [{}]\n", f"{FILE}, block 1: expected keys with values, such as lr: [0.1, 0.2]"),
        ("grids: [{lr: 1}, lr]\n", f"{FILE}, block 2: expected keys with values"),
        ("grids: [{lr: []}]\n", f"{FILE}, block 1: lr: [] has no value; expected at least one"),
        ("grids: [{lr: }]\n", f"{FILE}, block 1: lr: expected a value or a list of values, found"),
        ("grids: [{lr: 1}, {bach: [16, 32]}]\n",
         f"{FILE}, block 2: bach=16: there is no such key; did you mean 'batch'?"),
        ("bach: 1\ngrids: [{lr: 1}]\n", f"{FILE}: bach=1: there is no such key"),
        ("grids: [{lr: 1}]\nexcude: [{lr: 1}]\n",
         f"{FILE}: excude: expected a value or a list of values; did you mean 'exclude'?"),
        ("grids: [{lr: 1}]\nexclude: {lr: 1}\n", f"{FILE}: exclude: expected a list of blocks"),
        ("grids: [{lr: 1}]\nexclude: [{bach: 1}]\n", f"{FILE}, exclude 1: bach=1: there is no"),
        ("grids: [{lr: 1}]\nexclude: [{lr: 1.0}]\n",
         f"{FILE}: exclude leaves no job; expected at least one"),
        ("grids: [{lr: 1}, {batch: 8, lr: [1, -1]}]\n",
         f"{FILE}, block 2: lr=-1: expected a finite number above 0 (in the job batch=8,lr=-1)"),
        ("grids: [{batch: 70000}]\n", f"{FILE}, block 1: batch=70000: expected 1 to 55000"),
        ("grids: [{optimizer: [sgd, adm]}]\n", "block 1: optimizer=adm: expected adam, adamw"),
        ("grids: [{optimizer: sgd, optimizer.beta1: 0.8}]\n", f"{FILE}, block 1: "),
        ("grids: [{dataset: {num_val: 5}}]\n",
         "block 1: dataset: expected a value or a list of values; write dataset.num_val: ..."),
        ("grids: [{lr: [1, {a: b}]}]\n", "block 1: lr: expected a value or a list of values"),
        ("grids: [{lr: range(1,3)}]\n",
         f"{FILE}, block 1: lr=range(1: inside {{}} or [], YAML needs quotes around a value with"),
        ("grids: [{lr: 'range(a)'}]\n", f"{FILE}, block 1: lr=range(a): "),
        ("grids: [{lr: 'interval(0.1, 1)'}]\n", "block 1: lr=interval(0.1, 1): an interval is for"),
        ("grids: [{lr: 1, lr: 2}]\n", f"{FILE}: line 1: lr is given twice; give it once"),
        ("grids: [{lr: 1\n", f"{FILE}: line 2: expected ',' or '}}', but got"),
        ("grids: [{seed: range(100000), batch: 'range(1,3)'}]\n", "200,000 jobs; expected at most"),
        ("grids: [{resume: last}]\n", "block 1: resume: is a key of the command; give it on the"),
        ("sweep: other\ngrids: [{lr: 1}]\n", f"{FILE}: sweep: is a key of the command"),
        ("hydra/launcher: joblib\ngrids: [{lr: 1}]\n",
         f"{FILE}: hydra/launcher: has no effect in a sweep file; give it on the command line"),
        ("hydra: {sweeper: {params: {lr: 1}}}\ngrids: [{lr: 1}]\n",
         f"{FILE}: hydra: has no effect in a sweep file; give it on the command line"),
        ("grids: [{hydra.run.dir: x}]\n", "block 1: hydra.run.dir: has no effect in a sweep file; "
         "results go to outputs=FOLDER"),
        ("grids: [{hydra.searchpath: x}]\n", "hydra.searchpath: has no effect in a sweep file"),
    ],
)  # fmt: skip
def test_an_error_names_file_block_and_key(write: Write, text: str, problem: str) -> None:
    write(text)
    with pytest.raises(ConfigError) as error:
        expand()
    assert problem in str(error.value)
    assert str(error.value).startswith(FILE)
    assert "\n" not in str(error.value)


def test_an_error_of_the_command_line_does_not_blame_the_file(write: Write) -> None:
    write(PAIRED)
    with pytest.raises(ConfigError) as error:
        expand("batch=0")
    assert str(error.value).startswith("batch=0: expected")


def test_a_file_that_is_not_there(write: Write) -> None:
    write(PAIRED)
    assert sweep_file.names() == ["optimizers", "own"]
    with pytest.raises(ConfigError) as error:
        sweep_file.read("owm")
    assert str(error.value) == "sweep=owm: expected optimizers, own; did you mean 'own'?"
    with pytest.raises(ConfigError, match=r"sweep=\.\./x: expected"):
        sweep_file.read("../x")


def test_a_name_without_its_ending_is_completed(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"; to use that file, type sweep=here\.yaml$"):
        sweep_file.read("here")


def test_a_file_that_is_elsewhere(write: Write, tmp_path: Path) -> None:
    (tmp_path / "my sweeps").mkdir()
    path = tmp_path / "my sweeps" / "one.yaml"
    path.write_text("grids: [{lr: [0.1, 0.2]}]\n")
    jobs = sweep_jobs.expand(str(path), [])
    assert [job.name for job in jobs] == ["lr=0.1", "lr=0.2"]
    assert sweep_file.read("my sweeps/one.yaml").path == Path("my sweeps/one.yaml")
    with pytest.raises(ConfigError, match=r"sweep=own\.yaml: there is no such file; a name has no"):
        sweep_file.read("own.yaml")


def test_a_file_that_cannot_be_read(write: Write, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"grids: [{lr: \xff}]")
    with pytest.raises(ConfigError, match=r"own\.yaml: expected UTF-8, found the byte 0xff"):
        sweep_file.read("own")
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="sweep=own: expected"):
        sweep_file.read("own")


def test_the_example_pairs_each_optimizer_with_its_learning_rates() -> None:
    jobs = sweep_jobs.expand("optimizers", [])
    assert len(jobs) == 36
    assert {job.swept["optimizer"] for job in jobs} == {"sgd", "momentum", "adam", "adamw"}
    assert {job.config.weight_decay for job in jobs if job.swept["optimizer"] == "adamw"} == {0.01}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["sweep=optimizers"], "sweep=optimizers: a file of several jobs; add -m before it"),
        (["--cfg", "job", "sweep=optimizers"], "a file of several jobs; add -m before it"),
        (["-m", "sweep=optimizers", "resume=last"], "resume continues one run"),
        (["-m", "sweep=optimizers", "hydra/sweeper=optuna"], "a search chooses its own values"),
        (["-m", "sweep=a", "sweep=b"], "sweep=b: sweep= is given twice; give one file"),
        (["-m", "sweep=a,b"], "sweep=a,b: expected optimizers"),
        (["-m", "sweep="], "sweep=(nothing): expected optimizers"),
    ],
)
def test_where_it_has_no_effect_it_is_refused(
    command: Command, tmp_path: Path, words: list[str], problem: str
) -> None:
    done = command(RUN, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_example_of_the_documentation(write: Write) -> None:
    """docs/scaling.md has a whole file."""
    (text,) = re.findall(r"```yaml\n(# sweep/paper.yaml.*?)```", DOCS, re.DOTALL)
    write(text)
    assert names("epochs=5") == [
        *(f"optimizer=sgd,lr={lr},seed={seed}" for lr in (0.1, 0.2) for seed in (0, 1)),
        *(f"optimizer=adam,lr={lr},seed={seed}" for lr in (0.0005, 0.001) for seed in (0, 1)),
        *(f"optimizer=adamw,lr=0.001,seed={seed}" for seed in (0, 1)),
        *(f"experiment=smoke,width={w},seed={s}" for w in ("[64,32]", "[64]") for s in (0, 1)),
    ]


IN_THE_FOLDER = """
import sys
from pathlib import Path
from harness.run import sweep_file
from harness.run.__main__ import main
sweep_file.conf_roots = lambda: [Path("conf")]
main()
"""


def test_the_example_of_the_documentation_is_trained_and_compared(
    write: Write, command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """A union of optimizers and a recipe is one sweep, one table and one report."""
    (text,) = re.findall(r"```yaml\n(# sweep/paper.yaml.*?)```", DOCS, re.DOTALL)
    write(text)
    own = small(idx_folder, "dataset.num_train=200", "tracking=none", "epochs=1", "threads=1")
    words = ["-m", "sweep=own", "seed=1", *(word for word in own if word[:5] != "width")]
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_FOLDER, *words, "hydra/launcher=joblib"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    (plan,) = all_plans(tmp_path / "outputs")
    assert [job.name for job in plan.jobs] == names(*words[2:])
    assert {run.status for run in histories(tmp_path)} == {"FINISHED"}
    assert list(plan.jobs[0].swept) == ["optimizer", "lr", "experiment", "width"]
    report = (tmp_path / "outputs/reports" / plan.id / "report.json").read_text()
    assert len(json.loads(report)["runs"]) == 7
    settings = (tmp_path / "outputs/reports" / plan.id / "settings.csv").read_text().splitlines()
    assert settings[0].startswith("rank,width,lr,optimizer,n,")
    assert len(settings) == 8


def test_a_union_is_one_sweep(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    words = small(idx_folder, "tracking=none", "epochs=1", "threads=1", "seed=1,2")
    done = command(RUN, "-m", "sweep=optimizers", "hydra/launcher=joblib", "lr=0.1", *words)
    assert (done.returncode, done.stderr) == (0, "")
    (plan,) = all_plans(tmp_path / "outputs")
    assert plan.overrides[:2] == ("-m", "sweep=optimizers")
    assert [job.name for job in plan.jobs][::2] == [
        "optimizer=sgd,seed=1", "optimizer=momentum,seed=1", "optimizer=adam,seed=1",
        "optimizer=adamw,weight_decay=0.01,seed=1",
    ]  # fmt: skip
    assert len(histories(tmp_path)) == 8
    again = command(RUN, "-m", "seed=1,2", "sweep=optimizers", *words[:-1], "lr=0.1")
    assert again.stdout.count("finished before as") == 8
    assert len(all_plans(tmp_path / "outputs")) == 1
    compared = command("harness", "compare")
    assert "weight_decay=0 optimizer=momentum" in compared.stdout
    assert "optimizer.beta1" not in compared.stdout
