"""What `python -m harness.run --help` prints."""

from pathlib import Path

import pytest

from harness.run import compose, conf, launcher_schema, overrides
from harness.run import help as manual
from harness.runfolder import parts
from harness.runfolder.kinds import KINDS
from harness.runfolder.meanings import meanings


def test_every_key_group_engine_and_example_is_listed() -> None:
    text = manual.help_text([])
    for key in (*meanings(), *overrides.COMMAND_KEYS):
        assert f"  {key} " in text
    for group, options in conf.groups().items():
        assert ", ".join(options) in text, group
    for kind, schemas in launcher_schema.SCHEMAS.items():
        assert f"hydra/{kind}: {', '.join(schemas)}\n" in text
        for name in schemas:
            for key, meaning in launcher_schema.keys(kind, name).items():
                assert f" {key} " in text
                assert meaning in text
    assert text.count("python -m harness.run ") >= 4


def test_defaults_are_shown() -> None:
    lines = {line.split()[0]: line for line in manual.help_text([]).splitlines() if line.split()}
    assert lines["batch"].endswith("[32]")
    assert lines["max_norm"].endswith("[null]")
    assert lines["dataset.num_val"].endswith("[5000]")
    assert lines["optimizer.beta1"].endswith("[0.9 with adam or adamw]")
    assert lines["augmentation.shift"].endswith("[1.5 with affine, 1.0 with elastic]")
    assert lines["model.channels"].endswith("[[8,16] with conv]")
    assert "conf/" not in manual.help_text([]), "a wheel has no such folder"


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_of_parts_are_those_of_their_files(kind: str) -> None:
    for part in KINDS[kind].rows:
        chosen = compose.compose_one([f"{kind}={part}"])
        for key in parts.keys(kind, part):
            default = list(key.default) if isinstance(key.default, tuple) else key.default
            assert chosen.parts[kind].options[key.name] == default


def listed(*typed: str) -> dict[str, str]:
    """The lines of the keys by key."""
    text = manual.help_text(overrides.parse([*typed]).settings)
    _, _, text = text.partition("\nKeys, meaning [default]:\n")
    return {line.split()[0]: line for line in text.partition("\n\n")[0].splitlines()}


def test_the_keys_of_an_own_data_set_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "help_data.py").write_text("def waves(*, noise: float = 0.25): ...\n")
    (tmp_path / "own/dataset").mkdir(parents=True)
    (tmp_path / "own/dataset/waves.yaml").write_text(
        "defaults: [mnist]\nname: help_data:waves\nnoise: 0.5\n"
    )
    monkeypatch.chdir(tmp_path)
    assert listed("dataset=help_data:waves")["dataset.noise"].endswith("[0.25]")
    with conf.including(["own"]):
        assert listed("dataset=waves")["dataset.noise"].endswith("[0.5]")
    assert "dataset.noise" not in listed()


def test_keys_that_the_trainer_or_the_model_does_not_take_are_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "help_parts.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Settings:\n    rate: float = 0.25\n"
        "def fit(settings: Settings, run): ...\n"
        "def net(input_shape, outputs, *, dropout: float = 0.0): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    found = listed("trainer=help_parts:fit")
    assert found["trainer.rate"].endswith("[0.25]")
    assert {"epochs", "seed", "dataset.num_val", "tracking.name"} <= set(found)
    assert not {"width", "lr", "batch", "activation", "optimizer.name", "model.name"} & set(found)
    groups = manual.help_text(overrides.parse(["trainer=help_parts:fit"]).settings)
    assert "\n  dataset " in groups
    assert "\n  optimizer " not in groups
    found = listed("model=help_parts:net")
    assert "dropout" in found
    assert not {"width", "depth", "activation"} & set(found)
