"""Parsing a command line into settings of runs, settings of engines and keys of the command.

Covers: harness/run/hydra_errors.py
"""

import re
import shlex

import pytest

from harness.run import hydra_errors, overrides
from harness.run.compose import compose_one
from harness.run.overrides import CommandLine, parse, parse_each, value_text
from harness.runfolder.config import ConfigError


def texts(line: CommandLine) -> tuple[list[str], list[str], list[str]]:
    """The overrides of the settings, the launcher and the sweeper."""
    kinds = (line.settings, line.engines["launcher"], line.engines["sweeper"])
    settings, launcher, sweeper = ([overrides.text_of(each) for each in kind] for kind in kinds)
    return settings, launcher, sweeper


def test_overrides_are_split_by_kind() -> None:
    typed = [
        "batch=16,32", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4", "fresh=true",
        "optimizer=adam", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=9", "+lr=0.1",
        "hydra.searchpath=[file:///own]",
    ]  # fmt: skip
    line = parse(typed)
    assert texts(line) == (
        ["batch=16,32", "optimizer=adam", "+lr=0.1", "hydra.searchpath=[file:///own]"],
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=4"],
        ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=9"],
    )
    assert (line.fresh, line.resume) == (True, None)
    assert line.typed == [text for text in typed if text != "fresh=true"]


def test_nothing_is_a_command_with_the_defaults() -> None:
    line = parse([])
    assert texts(line) == ([], [], [])
    assert (line.typed, line.fresh, line.resume) == ([], False, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("outputs='my outputs'", "my outputs"),
        ('outputs="my outputs"', "my outputs"),
        ("outputs=outputs", "outputs"),
        ("outputs=", ""),
        ("outputs='a=b'", "a=b"),
        ("dataset.dir=/data/own", "/data/own"),
        ("width=[8,4]", "[8,4]"),
        ("+lr=1e-3", "1e-3"),
        ("resume=12e456", "12e456"),
        ("resume=012345", "012345"),
        ("resume=1_000", "1_000"),
    ],
)
def test_the_value_of_an_override_is_without_quotes(text: str, value: str) -> None:
    (override,) = parse_each([text])
    assert value_text(override) == value


@pytest.mark.parametrize("quoted", ["resume=0123ab", "resume='0123ab'"])
def test_the_run_to_resume(quoted: str) -> None:
    line = parse([quoted, "outputs='my outputs'"])
    assert (line.resume, line.typed) == ("0123ab", ["outputs='my outputs'"])


@pytest.mark.parametrize(("text", "fresh"), [("fresh=true", True), ("fresh=false", False)])
def test_fresh(text: str, fresh: bool) -> None:
    assert parse([text]).fresh is fresh


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bach=64", "bach=64: there is no such key; did you mean 'batch'?"),
        ("optimizer.name=adam", "optimizer.name=adam: type optimizer=adam"),
        ("resum=last", "resum=last: there is no such key; did you mean 'resume'?"),
        ("num_val=0", "there is no such key; did you mean 'dataset.num_val'?"),
        ("n_trials=5", "there is no such key; did you mean 'hydra.sweeper.n_trials'?"),
        ("sampler=tpe", "there is no such key; did you mean 'hydra.sweeper.sampler'?"),
        ("launcher=joblib", "there is no such key; did you mean 'hydra/launcher'?"),
        ("xyzzy=1", "xyzzy=1: there is no such key; --help lists all keys"),
        ("bach=1", "bach=1: there is no such key; did you mean 'batch'? --help lists all keys"),
        ("xyzzy=1,2", "xyzzy=1,2: there is no such key"),
        ("foo/bar=1", "foo/bar=1: there is no such key"),
        ("batch", "batch: expected KEY=VALUE, such as batch=64"),
        ("batch=16,,32", "batch=16,,32: expected a value on each side of a comma, such as 16,32"),
        ("batch=16,", "batch=16,: expected a value on each side of a comma"),
        ("batch=,16", "batch=,16: expected a value on each side of a comma"),
        ("width=[a", "width=[a: "),
        ("width=choice(", "width=choice(: "),
        ("optimizer=2.50", "optimizer=2.50: expected adam, adamw, momentum, sgd; for a file of"),
        ("optimizer=null", "optimizer=null: expected adam, adamw, momentum, sgd; for a file of"),
        ("optimizer=sgd,null", "optimizer=sgd,null: null: expected adam, adamw, momentum, sgd"),
        ("optimizer=choice(sgd,true)", "optimizer=choice(sgd,true): true: expected adam, adamw"),
        ("optimizer=range(2)", "optimizer=range(2): 0: expected adam, adamw, momentum, sgd"),
        ("fresh=maybe", "fresh=maybe: expected true or false"),
        ("fresh=1", "fresh=1: expected true or false"),
        ("resume=", "resume=(nothing): expected a run id or last"),
        ("~resume", "~resume: cannot be deleted; leave it out instead"),
        ("~fresh", "~fresh: cannot be deleted"),
        ("~hydra/launcher", "~hydra/launcher: cannot be deleted"),
        ("~hydra.launcher.n_jobs", "~hydra.launcher.n_jobs: cannot be deleted"),
    ],
)  # fmt: skip
def test_an_error_is_one_line(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(["batch=16", text])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "kind", "expected"),
    [
        ("hydra/launcher", "launcher", True),
        ("hydra.launcher", "launcher", True),
        ("hydra.launcher.n_jobs", "launcher", True),
        ("hydra.launchers", "launcher", False),
        ("hydra/launcher", "sweeper", False),
        ("launcher", "launcher", False),
    ],
)
def test_keys_of_engines(key: str, kind: str, expected: bool) -> None:
    assert overrides.is_engine_key(key, kind) is expected


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("hydra.run.dir=x", "results go to outputs=FOLDER"),
        ("+hydra.run.dir=x", "results go to outputs=FOLDER"),
        ("~hydra.run.dir", "results go to outputs=FOLDER"),
        ("hydra.sweep.dir=x", "results go to outputs=FOLDER"),
        ("hydra.sweep.subdir=x", "results go to outputs=FOLDER"),
        ("hydra.job.chdir=true", "jobs work in the folder where the command is typed"),
        ("hydra.job.env_set.A=b", "jobs have the environment of the shell"),
        ("hydra.job.env_copy=[A]", "jobs have the environment of the shell"),
        ("hydra.mode=MULTIRUN", "-m makes a sweep"),
        ("+hydra.callbacks.mine=x", "Hydra only composes the settings here"),
        ("hydra.sweeper.params={lr:1}", "sweep the keys themselves on the command line: -m lr="),
        ("+hydra.sweeper.params.lr=1,2", "sweep the keys themselves"),
        ("hydra.verbose=true", "--help lists all keys"),
        ("hydra/job_logging=none", "--help lists all keys"),
    ],
)
def test_a_setting_of_hydra_without_effect_is_refused(text: str, instead: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(["hydra/sweeper=optuna", text])
    assert str(error.value).startswith(f"{text}: has no effect; ")
    assert instead in str(error.value)


def test_accepting_other_source() -> None:
    line = parse(["accept=source", "batch=16"])
    assert (line.accept, line.typed) == (True, ["accept=source", "batch=16"])
    assert not parse([]).accept


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["accept=data"], "accept=data: expected source"),
        (["accept="], "accept=(nothing): expected source"),
        (["accept=source", "fresh=true"], "accept=source: fresh=true reuses no finished runs"),
        (["accept=source", "resume=last"], "accept=source: resume reuses no finished runs"),
    ],
)
def test_what_cannot_be_accepted(texts: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(texts)
    assert str(error.value).startswith(problem)


def test_resume_and_fresh_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        parse(["resume=last", "fresh=true"])


def test_an_unknown_option_of_a_group_names_the_options() -> None:
    from hydra.errors import MissingConfigException

    message = "In 'config': Could not find 'optimizer/adm'\n\nAvailable options ..."
    with pytest.raises(ConfigError) as error, hydra_errors.one_line_errors("optimizer=adm"):
        raise MissingConfigException(message)
    assert str(error.value) == (
        "optimizer=adm: expected adam, adamw, momentum, sgd; did you mean 'adam'?"
    )


@pytest.mark.parametrize("value", ["~x", "Größe", "it's", "a=b", "a{b", "a(b", r"a\"&b", "#1"])
def test_any_characters_can_be_quoted_as_told(value: str) -> None:
    """The line that an error tells to type is accepted, and gives the very value."""
    with pytest.raises(ConfigError) as refused:
        overrides.parse([f"tracking.experiment={value}"])
    (typed,) = shlex.split(str(refused.value).partition("for Hydra: ")[2])
    assert compose_one([typed]).tracking.experiment == value


@pytest.mark.parametrize("value", ["2024", "true", "1.5", "nan", "inf"])
def test_a_number_as_a_name_can_be_quoted_as_told(value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_one([f"tracking.experiment={value}"])
    (typed,) = shlex.split(str(refused.value).partition(", type ")[2])
    assert compose_one([typed]).tracking.experiment == value


def test_several_objectives_are_one_and_what_it_costs() -> None:
    line = overrides.parse(["lr=0.1", "objective=[val/loss,parameters,val/f1:max]"])
    assert [overrides.text_of(each) for each in line.settings] == ["lr=0.1", "objective=val/loss"]
    assert line.costs == ("parameters", "val/f1:max")
    assert line.typed == ["lr=0.1", "objective=[val/loss,parameters,val/f1:max]"]
    line = overrides.parse(["objective=[val/loss:min,parameters:min]"])
    assert line.costs == ("parameters",)
    line = overrides.parse(["objective=[val/loss,parameters]", "objective=val/error"])
    assert line.costs == (), "the last one counts"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("objective=[]", "expected objective=METRIC, or the objective and what it costs"),
        ("objective=[val/error]", "such as objective=[val/error,parameters]"),
        ("objective=[val/error,test/error]", "the test set is read once"),
        ("objective=[val/error,val/error]", "a metric is given twice"),
        ("objective=[val/error,val/f1]", "type val/f1:max, or val/f1:min if lower is better"),
        ("objective=[val/f1:max,val/f1:min]", "a metric is given twice"),
        ("objective=[val/error,parameters,model/parameters:max]", "a metric is given twice"),
        ("objective=[val/error:min,val/error]", "a metric is given twice"),
        ("objective=[val/error,parameters:mim]", "or NAME:max"),
    ],
)
def test_what_is_no_list_of_objectives(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        overrides.parse([text])
