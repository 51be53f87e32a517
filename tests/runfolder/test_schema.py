"""The schema of `conf/`: every option is valid, every key has a meaning."""

import dataclasses

import pytest

from harness.run.conf import groups
from harness.runfolder import config as configuration
from harness.runfolder.schema import GROUPS, Config
from tests.conftest import composed

SCHEMAS = [Config, *(each for schemas in GROUPS.values() for each in schemas)]


@pytest.mark.parametrize("each", SCHEMAS, ids=lambda each: each.__name__)
def test_every_key_has_a_meaning_of_one_line(each: type) -> None:
    for field in dataclasses.fields(each):
        if field.name in GROUPS:
            continue
        meaning = field.metadata["meaning"]
        assert meaning
        assert "\n" not in meaning
        assert len(meaning) < 110


def test_the_groups_are_the_fields_that_are_schemas() -> None:
    hints = {field.name for field in dataclasses.fields(Config) if not field.metadata}
    assert hints == set(GROUPS)
    assert set(groups()) - {"experiment"} == set(GROUPS) - {"checkpoint"}


@pytest.mark.parametrize("group", ["normalization", "optimizer", "schedule", "augmentation"])
def test_every_option_of_a_group_is_valid_and_has_its_name(group: str) -> None:
    for option in groups()[group]:
        config = composed(f"{group}={option}")
        assert getattr(config, group).name == option


def test_hidden_layers() -> None:
    assert composed().hidden == (256,)
    assert composed("depth=3", "width=8").hidden == (8, 8, 8)
    assert composed("width=[8,4]").hidden == (8, 4)


def test_automatic_threads_require_one() -> None:
    assert composed("threads=auto").required_threads == 1
    assert composed("threads=4").required_threads == 4


def test_numbers_are_strict() -> None:
    """true is not 1, and "64" and 1.5 are no counts."""
    content = configuration.to_dict(composed())
    for wrong in (True, "64", 1.5, 0):
        with pytest.raises(configuration.ConfigError, match="batch="):
            configuration.parse(content | {"batch": wrong})
    for wrong in (float("nan"), float("inf"), 0, "0.1", True):
        with pytest.raises(configuration.ConfigError, match="lr="):
            configuration.parse(content | {"lr": wrong})
    with pytest.raises(configuration.ConfigError, match="dropout=1"):
        configuration.parse(content | {"dropout": 1.0})


@pytest.mark.parametrize("group", [None, "dataset", "optimizer", "tracking"])
def test_unknown_keys_are_refused(group: str | None) -> None:
    content = configuration.to_dict(composed())
    (content if group is None else content[group])["bach"] = 1
    with pytest.raises(configuration.ConfigError, match="there is no such key"):
        configuration.parse(content)
