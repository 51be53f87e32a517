"""The settings of launchers and sweepers: composed, validated, and no part of a run.

Covers: harness/run/engines.py
"""

import dataclasses

import pytest

from harness.run import launcher_schema, overrides
from harness.run.engines import compose_engines
from harness.run.launcher_schema import (
    BasicLauncher,
    BasicSweeper,
    Engines,
    JoblibLauncher,
    OptunaSweeper,
    SlurmLauncher,
)
from harness.runfolder.config import ConfigError
from tests.conftest import ROOT


def engines_of(*texts: str) -> Engines:
    return compose_engines(overrides.parse(list(texts)).engines)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["hydra/launcher=joblb"], "expected basic, joblib, slurm; did you mean"),
        (["hydra/launcher=submitit_local"], "expected basic, joblib, slurm"),
        (["hydra/sweeper=optun"], "did you mean 'optuna'?"),
        (["hydra/launcher=joblib", "hydra.launcher.n_job=4"], "did you mean 'hydra.launcher.n_jo"),
        (["hydra.launcher.n_jobs=4"], "hydra/launcher=basic has no such key; hydra/launcher=jobl"),
        (["hydra.launcher.xyz=4"], "hydra/launcher=basic has no such key; choose one with hydra/"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "n_jobs=0: expected a whole number"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=1,2"], "hydra.launcher.n_jobs=1,2: Am"),
        (["hydra/launcher=slurm", "hydra.launcher.mem_gb=-1"], "mem_gb=-1: expected a finite num"),
        (
            ["hydra/sweeper=optuna", "hydra.sweeper.sampler=tpa"],
            "expected tpe, random, qmc, nsga2; did",
        ),
        (
            ["hydra/sweeper=optuna", "hydra.sweeper.study=a b"],
            "study=a b: expected 1 to 60 letters",
        ),
    ],
)
def test_bad_settings_are_one_line(texts: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        engines_of(*texts, "batch=1")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_the_defaults_are_basic() -> None:
    assert engines_of("batch=16") == Engines(BasicLauncher(), BasicSweeper())
    assert engines_of("hydra/launcher=basic", "hydra/sweeper=basic") == Engines()


def test_the_last_choice_counts() -> None:
    assert isinstance(engines_of("hydra/launcher=slurm", "hydra/launcher=joblib").launcher,
                      JoblibLauncher)  # fmt: skip


def test_settings_of_engines_are_no_part_of_a_run() -> None:
    texts = ["batch=16", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4", "fresh=true"]
    line = overrides.parse(texts)
    assert [each.input_line for each in line.settings] == ["batch=16"]
    assert (line.typed, line.fresh, line.resume) == (texts[:3], True, None)
    engines = compose_engines(line.engines)
    assert isinstance(engines.launcher, JoblibLauncher)
    assert engines.launcher.n_jobs == 4
    assert engines.sweeper.name == "basic"


@pytest.mark.parametrize("n_jobs", ["null", "-1", "3"])
def test_the_number_of_jobs(n_jobs: str) -> None:
    launcher = engines_of("hydra/launcher=joblib", f"+hydra.launcher.n_jobs={n_jobs}").launcher
    assert isinstance(launcher, JoblibLauncher)
    assert launcher.n_jobs == (None if n_jobs == "null" else int(n_jobs))


def test_lists_are_settings_too() -> None:
    launcher = engines_of("hydra/launcher=slurm", "hydra.launcher.setup=[module load python]")
    assert isinstance(launcher.launcher, SlurmLauncher)
    assert launcher.launcher.setup == ["module load python"]


@pytest.mark.parametrize(
    ("kind", "name", "schema"),
    [
        ("launcher", "joblib", JoblibLauncher),
        ("launcher", "slurm", SlurmLauncher),
        ("sweeper", "optuna", OptunaSweeper),
    ],
)
def test_every_option_of_conf_has_its_schema(kind: str, name: str, schema: type) -> None:
    assert launcher_schema.SCHEMAS[kind][name] is schema
    assert (ROOT / f"conf/hydra/{kind}/{name}.yaml").is_file()
    assert isinstance(getattr(engines_of(f"hydra/{kind}={name}"), kind), schema)
    names = {f"hydra.{kind}.{field.name}" for field in dataclasses.fields(schema)}
    assert set(launcher_schema.keys(kind, name)) == names - {f"hydra.{kind}.name"}
    assert all(launcher_schema.keys(kind, name).values())


def test_no_option_of_conf_is_without_a_schema() -> None:
    for kind, schemas in launcher_schema.SCHEMAS.items():
        files = {path.stem for path in (ROOT / "conf/hydra" / kind).glob("*.yaml")}
        assert files | {"basic"} == set(schemas)
