"""Expanding a sweep: Hydra's grammar, Hydra's order.

Covers: harness/run/composer.py
"""

import shutil
from pathlib import Path

import hydra
import pytest

from harness.run import compose, overrides
from harness.run import composer as composing
from harness.run.compose import Job
from harness.run.composer import composer
from harness.run.conf import conf_path
from harness.runfolder.config import ConfigError
from tests.conftest import composed


def expand(*texts: str) -> list[Job]:
    return compose.expand(overrides.parse(list(texts)).settings, sweep=True)


def names(*texts: str) -> list[str]:
    return [job.name for job in expand(*texts)]


def test_the_signature_sweep() -> None:
    jobs = expand("batch=16,64,128")
    assert [job.name for job in jobs] == ["batch=16", "batch=64", "batch=128"]
    assert [job.config.batch for job in jobs] == [16, 64, 128]
    assert jobs[0].swept == {"batch": "16"}


def test_product_with_the_last_key_fastest() -> None:
    assert names("batch=16,32", "lr=0.5", "seed=range(2)") == [
        "batch=16,seed=0",
        "batch=16,seed=1",
        "batch=32,seed=0",
        "batch=32,seed=1",
    ]


def test_a_name_has_long_numbers_with_as_few_digits_as_tell_them_apart() -> None:
    jobs = expand("lr=0.30233257263183977,0.30251000000123,0.12345,1.0", "seed=1,2")
    assert [job.name for job in jobs[::2]] == [
        "lr=0.302,seed=1", "lr=0.303,seed=1", "lr=0.12345,seed=1", "lr=1.0,seed=1",
    ]  # fmt: skip
    assert jobs[0].swept == {"lr": "0.30233257263183977", "seed": "1"}, "as typed"


def test_lists_groups_choices_and_globs() -> None:
    jobs = expand("width=[8,4],16")
    assert [job.config.hidden for job in jobs] == [(8, 4), (16,)]
    assert names("normalization=minmax,unit") == ["normalization=minmax", "normalization=unit"]
    assert names("batch=choice(16,64)") == ["batch=16", "batch=64"]
    assert names("normalization=glob(*,exclude=none)") == [
        "normalization=minmax",
        "normalization=standard",
        "normalization=unit",
    ]
    assert len(names("experiment=article,smoke")) == 2


@pytest.mark.parametrize(
    "lines",
    [
        ["seed=3", "epochs=2"],
        ["width=[8,4]", "lr=1e-3", "threads=null"],
        ["experiment=article", "batch=64", "optimizer=adam", "optimizer.beta1=0.5"],
        ["activation=relu", "metrics=[top2_error]", "objective=val/loss"],
        ["seed='1'"],
        ["dataset=mnist", "dataset.num_train=100", "dataset.num_val=10", "weights=last"],
    ],
)
def test_a_configuration_composed_before_gives_what_hydra_composes(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with composer() as compose_:
        compose_([])
        quick = compose_(lines)
    monkeypatch.setattr(composing, "_is_plain", lambda *_: False)
    with composer() as compose_:
        assert compose_(lines) == quick


def test_only_one_of_many_jobs_is_composed_by_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    hydras = hydra.compose
    monkeypatch.setattr(
        hydra, "compose", lambda *given, **named: calls.append(given) or hydras(*given, **named)
    )
    assert len(expand("seed=range(5)", "batch=16,64")) == 10
    composing._hydra_defaults()
    assert len(calls) <= 2


def test_a_folder_of_the_users_named_as_a_key_is_a_group(tmp_path: Path) -> None:
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed/lucky.yaml").write_text("# @package _global_\nseed: 7\n")
    with composer(own=[tmp_path]) as compose_:
        assert compose_(["+seed=lucky"])["seed"] == 7
        with pytest.raises(ValueError, match="Config group override"):  # Hydra's, of a number
            compose_(["seed=5"])


def test_equal_jobs_are_one() -> None:
    assert names("batch=16,16,32") == ["batch=16", "batch=32"]
    assert names("lr=0.2,0.20") == ["lr=0.2"]
    assert names("objective=val/loss,val/loss:min") == ["objective=val/loss"]


def test_a_sweep_without_several_values_is_one_job() -> None:
    assert names("batch=16") == ["batch=16"]


def test_a_name_leaves_out_what_changes_no_result() -> None:
    around = (
        "tracking=none",
        "tracking.experiment=a",
        "outputs=x",
        "threads=1",
        "checkpoint.keep=1",
    )
    assert names(*around, "batch=16", "dataset.label=digits") == ["batch=16,dataset.label=digits"]
    assert names(*around) == ["default"]
    assert names(*around[:3], "threads=1,2", "seed=1") == ["threads=1", "threads=2"]


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["lr=0.1,0.2", "lr=0.3"], "lr=0.3: lr=0.1,0.2 is given as well; give a swept key once"),
        (["lr=tag(a,choice(0.1,0.2))"], "tag() is for a search"),
        (["seed=range(1000)", "batch=range(1000)"], "these values give 1,000,000 jobs; expected"),
    ],
)
def test_a_sweep_that_is_not_what_was_typed_is_refused(texts: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        expand(*texts)
    assert problem in str(error.value)


def test_a_prefix_is_not_part_of_a_swept_key() -> None:
    assert [job.swept for job in expand("++threads=1,2")] == [{"threads": "1"}, {"threads": "2"}]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A copy of the folder `conf`."""
    return Path(shutil.copytree(conf_path(), tmp_path / "conf"))


NOTHING = f"has no effect; {overrides.NO_EFFECT}"
SEARCHED = "sweep the keys themselves on the command line: -m lr=0.1,0.2"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("hydra:\n  sweeper:\n    params:\n      lr: 0.1,0.2\n",
         f"hydra.sweeper.params.lr=0.1,0.2 in a configuration file: has no effect; {SEARCHED}"),
        ("hydra:\n  run:\n    dir: x\n", "hydra.run.dir=x in a configuration file: has no effect"),
        ("hydra:\n  job:\n    chdir: true\n", "hydra.job.chdir=True in a configuration file"),
        ("defaults:\n  - override /hydra/launcher: joblib\n",
         "hydra/launcher=joblib in a configuration file: has no effect; give it on the command"),
        ("hydra:\n  launcher:\n    n_jobs: 2\n", "Key 'n_jobs' not in 'BasicLauncherConf'; give h"),
        ("hydra:\n  job:\n    env_set:\n      A: b\n",
         f"hydra.job.env_set.A=b in a configuration file: has no effect; {overrides.ENVIRONMENT}"),
        ("hydra:\n  job:\n    env_copy: [NOWHERE]\n",
         "hydra.job.env_copy=[NOWHERE] in a configuration file: has no ef"),
        ("hydra:\n  job:\n    num: 3\n", f"hydra.job.num=3 in a configuration file: {NOTHING}"),
        ("hydra:\n  sweep:\n    subdir: x\n", "hydra.sweep.subdir=x in a configuration file: has"),
        ("hydra:\n  mode: MULTIRUN\n", "in a configuration file: has no effect; -m makes a sweep"),
        ("hydra:\n  verbose: true\n", f"hydra.verbose=True in a configuration file: {NOTHING}"),
        ("hydra:\n  callbacks:\n    mine:\n      _target_: x\n",
         f"hydra.callbacks.mine._target_=x in a configuration file: {NOTHING}"),
        ("hydra:\n  launcher:\n    _target_: x\n", "hydra.launcher._target_=x in a configuration"),
        ("hydra:\n  job_logging:\n    version: 2\n", "hydra.job_logging.version=2 in a configurat"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["experiment/own.yaml", "config.yaml"])
def test_a_setting_of_hydra_in_a_file_is_refused(
    conf: Path, content: str, problem: str, file: str
) -> None:
    path = conf / file
    if file == "config.yaml":
        own = content.removeprefix("defaults:\n").replace("override /hydra", "override hydra")
        shared = path.read_text()
        inside = shared.replace("  - experiment: null\n", f"  - experiment: null\n{own}")
        path.write_text(inside if own != content else shared + content)
    else:
        path.write_text(f"# @package _global_\n{content}")
    with pytest.raises(ConfigError) as error:
        compose.compose_one(["experiment=own"] if "own" in file else [], conf)
    assert problem in str(error.value)


def test_what_composing_obeys_and_what_older_searches_froze_passes(conf: Path) -> None:
    own = conf.parent / "own"
    (own / "experiment").mkdir(parents=True)
    (own / "experiment/mine.yaml").write_text("# @package _global_\nbatch: 7\n")
    path = conf / "config.yaml"
    old = "  - override hydra/hydra_logging: none\n  - override hydra/job_logging: none\n"
    path.write_text(path.read_text().replace("experiment: null\n", f"experiment: null\n{old}"))
    lines = [f"hydra.searchpath=[file://{own}]", "experiment=mine"]
    assert compose.compose_one(lines, conf).batch == 7


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["model=conv", "depth=2"], "depth: model=conv has no such key; it has model.channels"),
        (["model=conv", "++depth=2"], "depth: model=conv has no such key"),
    ],
)
def test_a_key_that_the_model_does_not_take_is_refused_for_a_trial_as_well(
    lines: list[str], expected: str
) -> None:
    """The trials of a search are composed one by one."""
    with pytest.raises(ConfigError, match=f"^{expected}"):
        compose.compose_one(lines)


@pytest.mark.parametrize("tracking", ["local", "none", "server"])
def test_the_experiment_is_named_after_the_data(tracking: str) -> None:
    """So that two labels of one table are two comparisons."""
    own = ("dataset=arrays", "dataset.file=x.npz", f"tracking={tracking}")
    own = (*own, "tracking.uri=http://HOST:5000") if tracking == "server" else own
    assert composed(*own).tracking.experiment == "arrays"
    assert composed(*own, "dataset.label=species").tracking.experiment == "species"
    named = composed(*own, "dataset.label=species", "tracking.experiment=iris")
    assert named.tracking.experiment == "iris"
