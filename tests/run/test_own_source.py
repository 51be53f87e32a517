"""Own folders and own parts, as Hydra finds them; the groups and keys that are known then.

Covers: harness/run/own_source.py
"""

from pathlib import Path

import pytest

from harness.run import compose, conf, overrides
from harness.run import help as manual
from harness.runfolder.config import ConfigError
from harness.runfolder.schema import ScratchConfig

PARTS = """
class Lion:
    def __init__(self, parameters, *, lr: float = 0.0003, weight_decay: float = 0.0,
                 beta: float = 0.9):
        pass

class Bare:
    def __init__(self, parameters):
        pass

class Named:
    def __init__(self, parameters, *, name: str = "x"):
        pass

class Plain:
    def __init__(self, parameters, *, beta: float = 0.9):
        pass
"""
EXPERIMENTS = {
    "with": "# @package _global_\ndefaults:\n  - override /optimizer: own_parts:Lion\nwidth: 12\n",
    "without": "defaults:\n  - override /optimizer: own_parts:Lion\nwidth: 12\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of configurations with a module beside its groups."""
    root = tmp_path_factory.mktemp("own") / "conf"
    for group in ("experiment", "optimizer"):
        (root / group).mkdir(parents=True)
    (root / "own_parts.py").write_text(PARTS)
    for name, text in EXPERIMENTS.items():
        (root / f"experiment/{name}_package.yaml").write_text(text)
    (root / "experiment/scalar.yaml").write_text("activation: own_parts:Plain\n")
    (root / "optimizer/fast.yaml").write_text("name: own_parts:Lion\nbeta: 0.5\n")
    return root


def composed(folder: Path, *lines: str) -> ScratchConfig:
    with conf.including([str(folder)]):
        config = compose.expand(overrides.parse([*lines]).settings, sweep=False)[0].config
    assert isinstance(config, ScratchConfig)
    return config


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_needs_no_package_line(folder: Path, name: str) -> None:
    config = composed(folder, f"experiment={name}_package")
    assert config.width == 12
    assert config.optimizer.name == "own_parts:Lion"


def test_an_own_part_on_the_command_line(folder: Path) -> None:
    config = composed(folder, "optimizer=own_parts:Lion", "optimizer.beta=0.8")
    assert config.optimizer.options == {"beta": 0.8}
    assert config.lr == 0.0003, "the part's own default"
    assert composed(folder, "optimizer=own_parts:Lion", "lr=1").lr == 1


def test_a_file_of_an_own_folder(folder: Path) -> None:
    config = composed(folder, "optimizer=fast", "lr=0.1")
    assert (config.optimizer.name, config.optimizer.options) == ("own_parts:Lion", {"beta": 0.5})
    with conf.including([str(folder)]):
        assert "fast" in conf.groups()["optimizer"]
        assert "with_package" in conf.groups()["experiment"]
    assert "fast" not in conf.groups()["optimizer"]


def test_a_part_without_a_learning_rate_needs_one(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"lr=null: optimizer=own_parts:Plain has no default"):
        composed(folder, "optimizer=own_parts:Plain")


def test_the_values_of_a_sweep(folder: Path) -> None:
    with conf.including([str(folder)]):
        settings = overrides.parse(
            ["optimizer=sgd,own_parts:Lion", "optimizer=adam,own_parts:Lion"][:1]
        ).settings
        jobs = compose.expand(settings, sweep=True)
    assert [job.name for job in jobs] == ["optimizer=sgd", "optimizer=own_parts:Lion"]


def test_help_has_the_keys_of_the_parts_that_are_chosen(folder: Path) -> None:
    with conf.including([str(folder)]):
        settings = overrides.parse(["optimizer=own_parts:Lion"]).settings
        text = manual.help_text(settings)
    (line,) = [line for line in text.splitlines() if line.strip().startswith("optimizer.beta ")]
    assert line.endswith("[0.9]")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("optimizer=own_parts:Lyon", "own_parts has no Lyon; it has Lion, Bare, Named, Plain"),
        ("optimizer=own_parts", "momentum, sgd, or your own own_parts:Lion or own_parts:Bare or"),
        (
            "experiment=scalar activation.beta=2",
            "activation.beta=2: which activation? Name it on the command line, activation=NAME, or "
            "in the file's list of defaults, 'override /activation: NAME'",
        ),
        ("optimizer=other_parts:Lion", "there is no module other_parts in "),
        ("optimizer=own_parts:Lion,sgd", "several values are a sweep; add -m"),
        ("activation=tanhh", "activation=tanhh: expected"),
        ("depth=2 model=conv", "depth: model=conv has no such key; it has model.channels"),
        (
            "optimizer=own_parts:Bare weight_decay=0.1 lr=0.1",
            "weight_decay: optimizer=own_parts:Bare has no such key",
        ),
        ("optimizer=own_parts:Named", "'name' cannot be a key, it names the part"),
    ],
)
def test_what_is_wrong_is_one_line(folder: Path, line: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(folder, *line.split())
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="--config-dir nowhere: there is no such folder"),
        conf.including(["nowhere"]),
    ):
        pass
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer/sgd.yaml").write_text("name: sgd\n")
    with (
        pytest.raises(ConfigError, match=r"sgd\.yaml: optimizer=sgd is built in; give the file"),
        conf.including([str(tmp_path)]),
    ):
        pass


def test_a_sweep_file_refuses_the_same_keys(folder: Path, tmp_path: Path) -> None:
    from harness.run import sweep_jobs

    (folder / "sweep").mkdir(exist_ok=True)
    (folder / "sweep/unused.yaml").write_text("grids:\n  - {model: conv, depth: [2, 3]}\n")
    with (
        conf.including([str(folder)]),
        pytest.raises(ConfigError, match="depth: model=conv has no such key"),
    ):
        sweep_jobs.expand("unused", [])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"width: [\n", r"/broken\.yaml: line 2: expected the node content, but found"),
        (b"width: 1\nwidth: 2\n", r"/broken\.yaml: line 2: found duplicate key width"),
        (b"width: \0\n", r"/broken\.yaml: special characters are not allowed"),
        (b"width: \xff\n", r"/broken\.yaml: expected UTF-8, found the byte 0xff"),
        (b"width: ${nowhere}\n", r"width: Interpolation key 'nowhere' not found"),
        (b"- width\n", r"experiment=broken: In 'experiment/broken': .*Cannot merge DictConfig"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    (tmp_path / "experiment/a_folder.yaml").mkdir(parents=True)
    (tmp_path / "experiment/broken.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        composed(tmp_path, "experiment=broken")
    assert "\n" not in str(caught.value)
