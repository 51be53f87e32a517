"""Configuration: what is accepted, and one readable line for everything that is not.

Covers: harness/runfolder/config.py, harness/runfolder/schema.py, harness/runfolder/meanings.py,
harness/runfolder/frozen_config.py, harness/runfolder/contradictions.py
"""

import re
import typing
from pathlib import Path

import pytest

from harness.run import compose, overrides
from harness.runfolder import config
from harness.runfolder.config import ConfigError
from harness.runfolder.frozen_config import read_yaml
from harness.runfolder.meanings import meanings
from harness.runfolder.schema import GROUPS, ScratchConfig
from harness.runfolder.values import allowed

WHOLE = "expected a whole number of at least"
BAD = {
    "bach=64": "bach=64: there is no such key; did you mean 'batch'?",
    "+typo=3": "+typo=3: there is no such key",
    "batch=0": "batch=0: expected a whole number from 1",
    "batch=": "batch=(nothing): expected a whole number from 1",
    "batch=70000": "batch=70000: expected 1 to 55000, the number of training examples",
    "batch=true": "batch=true: expected a whole number",
    "batch=1.5": "batch=1.5: expected a whole number",
    "batch=abc": "batch=abc: expected a whole number",
    "batch": "batch: expected KEY=VALUE",
    "batch=16,64": "batch=16,64: several values are a sweep; add -m",
    "lr=-1": "lr=-1: expected a finite number above 0",
    "lr=nan": "lr=nan: expected a finite number above 0",
    "lr=inf": "lr=inf: expected a finite number above 0",
    "width=[]": "width=[]: expected a whole number of at least 1, or a list",
    "width=0": f"width=0: {WHOLE} 1",
    "width=[8,0]": "width=[8,0]: expected",
    "width=[a": "width=[a: ",
    "depth=0": f"depth=0: {WHOLE} 1",
    "epochs=0": f"epochs=0: {WHOLE} 1",
    "seed=-1": f"seed=-1: {WHOLE} 0",
    "threads=0": "threads=0: expected auto or a whole number",
    "normalization=minmx": "normalization=minmx: expected minmax, none, standard, unit; did you",
    "experiment=artcle": "did you mean 'article'?",
    "activation=swish": "activation=swish: expected gelu, leaky_relu, relu, sigmoid, silu, tanh",
    "activation=sigmiod": "did you mean 'sigmoid'?",
    "optimizer=foo": "optimizer=foo: expected adam, adamw, momentum, sgd",
    "optimizer=nan": "optimizer=nan: expected adam, adamw, momentum, sgd; for a file of this very "
    "name, type 'optimizer=\"nan\"'",
    "optimizer.name=foo": "optimizer.name=foo: type optimizer=foo",
    "optimizer.momentum=0.5": "optimizer.momentum",
    "dropout=1": "dropout=1: expected a number from 0 to below 1",
    "adversarial=-1": "adversarial=-1: expected a finite number of at least 0",
    "max_norm=0": "max_norm=0: expected a finite number above 0",
    "schedule=cosin": "did you mean 'cosine'?",
    "optimizer.nam=foo": "optimizer.nam: optimizer=sgd has no such key",
    "schedule.warmpu=1": "did you mean 'schedule.warmup'?",
    "dataset.num_val=60000": "dataset.num_val=60000: expected 0 to 59999",
    "dataset.num_train=55001": "dataset.num_train=55001: expected 1 to 55000",
    "dataset=idx": "dataset.dir=null: dataset=idx needs dataset.dir=FOLDER",
    "tracking=server": "tracking.uri=null: tracking=server needs an address",
    "tracking.uri=http://somewhere:5000": "tracking.uri=http://somewhere:5000: tracking=local "
    "delivers to outputs/mlflow.db and ignores it; add tracking=server",
    "dataset.name=mnits": "dataset 'mnits': expected mnist, fashion_mnist, idx, arrays; did you",
    "dataset.num_train=0": f"dataset.num_train=0: {WHOLE} 1, or null",
    "patience=0": f"patience=0: {WHOLE} 1, or null",
    "checkpoint.keep=-1": f"checkpoint.keep=-1: {WHOLE} 0",
    "outputs=": "outputs=(nothing): expected a folder",
    "foo/bar=1": "foo/bar=1: there is no such key",
}


def refused(texts: list[str], *, sweep: bool = False) -> str:
    try:
        for job in compose.expand(overrides.parse(texts).settings, sweep=sweep):
            config.check(job.config)
    except ValueError as error:
        return str(error)
    pytest.fail(f"{texts} was accepted")


@pytest.mark.parametrize("override", BAD)
def test_bad_input_is_one_line(override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    error = refused([override])
    assert BAD[override] in error
    assert "\n" not in error


def test_the_allowed_values_of_a_group_are_named() -> None:
    momentum = refused(["optimizer=momentum", "optimizer.momentum=1"])
    assert momentum == "optimizer.momentum=1: expected a number from 0 to below 1"
    warmup = refused(["schedule=step", "schedule.warmup=-1"])
    assert warmup == "schedule.warmup=-1: expected a finite number of at least 0"
    grid = refused(["augmentation=elastic", "augmentation.grid=1"])
    assert grid == "augmentation.grid=1: expected a whole number from 2 to 28"


def test_every_number_says_what_it_allows() -> None:
    """A type without a description would leave the user with pydantic's words."""
    for schema in (ScratchConfig, *GROUPS.values()):
        for name, annotation in typing.get_type_hints(schema, include_extras=True).items():
            if name not in GROUPS and re.search(r"\b(int|float)\b", repr(annotation)):
                assert allowed(annotation), f"{schema.__name__}.{name}"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["width=[8,4]", "depth=3"], "depth=3: width=[8,4] already gives 2"),
        (["objective=val/top2_error"], "objective=val/top2_error: expected one of val/loss, val/"),
        (["objective=val/loss", "dataset.num_val=0"], "objective=val/loss: there are no valid"),
        (["objective=test/error"], "objective=test/error: the test set is read once, after"),
        (["objective=error"], "objective=error: expected a metric such as val/error"),
        (["patience=3", "dataset.num_val=0"], "patience=3: stopping early needs validation"),
        (
            ["tracking=none", "tracking.uri=http://x:5000"],
            "tracking.uri=http://x:5000: tracking=none delivers nothing and ignores it; "
            "add tracking=server",
        ),
        (["outputs=/o", "tracking.uri=http://x"], "tracking=local delivers to /o/mlflow.db and"),
        (
            ["tracking=server", "tracking.uri=localhost:5999"],
            "tracking.uri=localhost:5999: the scheme is missing; type http://localhost:5999",
        ),
        (["tracking=none", "tracking.uri=http://me:secret@x"], "without user and password"),
        (
            ["tracking=server", 'tracking.uri="postgresql://h/d?password=secret"'],
            "tracking.uri=postgresql://h/d?password=***: expected an address without a password",
        ),
    ],
)
def test_keys_that_contradict_each_other(overrides: list[str], expected: str) -> None:
    error = refused(overrides)
    assert expected in error
    assert "secret" not in error
    assert "\n" not in error


def test_the_bad_job_of_a_sweep_is_named() -> None:
    error = refused(["batch=16,32", "lr=0.1,-1"], sweep=True)
    assert error.startswith("lr=-1: ")
    assert error.endswith("(in the job batch=16,lr=-1)")


def scratch(*overrides: str) -> ScratchConfig:
    config = compose.compose_one(list(overrides))
    assert isinstance(config, ScratchConfig)
    return config


def test_the_learning_rate_is_the_optimizer_s_own() -> None:
    assert scratch().lr == 0.2
    assert scratch("optimizer=adam").lr == 0.001
    assert scratch("lr=1").lr == 1


def test_experiments_need_no_plus_and_give_way_to_the_command_line() -> None:
    article = scratch("experiment=article", "batch=8")
    assert article.dataset.num_val == 0
    assert article.batch == 8


def test_the_server_of_the_environment_counts_for_tracking_server_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    assert compose.compose_one([]).tracking.uri is None
    server = compose.compose_one(["tracking=server"])
    assert server.tracking.uri == "http://somewhere:5000"


def test_frozen_yaml_round_trip(tmp_path: Path) -> None:
    before = compose.compose_one(["width=[8,4]", "dataset.dir=/x"])
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(before))
    assert read_yaml(path) == before
    path.write_text(config.to_yaml(before).replace("batch: 32", "batch: -32"))
    with pytest.raises(ConfigError, match=r"config\.yaml: batch=-32"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("uri: null", "uri: http://x:5000"),
        ("depth: 1", "depth: 3"),
        ("num_val: 5000", "num_val: 0"),
        ("name: mnist", "name: idx"),
    ],
)
def test_a_run_that_an_older_version_accepted_can_be_read(
    tmp_path: Path, before: str, after: str
) -> None:
    """Contradictions are errors of a new command only."""
    text = config.to_yaml(compose.compose_one(["width=[8,4]", "patience=3"]))
    assert before in text
    path = tmp_path / "config.yaml"
    path.write_text(text.replace(before, after))
    frozen = read_yaml(path)
    assert after in config.to_yaml(frozen)
    with pytest.raises(ConfigError):
        config.parse(config.to_dict(frozen))


def test_a_run_without_an_objective_went_by_the_validation_error(tmp_path: Path) -> None:
    text = config.to_yaml(compose.compose_one([]))
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("objective: val/error\n", ""))
    assert read_yaml(path).objective == "val/error"


def test_leaves_are_dotted_and_flat() -> None:
    leaves = config.leaves(compose.compose_one(["width=[8,4]"]))
    assert leaves["width"] == "[8,4]"
    assert leaves["dataset.num_val"] == 5000
    assert set(leaves) <= set(meanings())
    assert all(meanings().values())


def test_a_config_of_version_0_1_records_the_uncommitted_changes(tmp_path: Path) -> None:
    """A key that was added later has the value that means what was done before."""
    text = config.to_yaml(compose.compose_one([]))
    (tmp_path / "config.yaml").write_text(text.replace("  diff: true\n", ""))
    assert read_yaml(tmp_path / "config.yaml").tracking.diff is True
    assert compose.compose_one(["tracking.diff=false"]).tracking.diff is False
