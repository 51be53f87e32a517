"""The schema of `conf/`: every option is valid, every key has a meaning."""

import dataclasses

import pytest

from harness.run.conf import groups
from harness.runfolder import config as configuration
from harness.runfolder.kinds import KINDS
from harness.runfolder.parts import check, keys
from harness.runfolder.schema import GROUPS, ScratchConfig
from harness.runfolder.values import allowed
from tests.conftest import composed

SCHEMAS = [ScratchConfig, *GROUPS.values()]


@pytest.mark.parametrize("each", SCHEMAS, ids=lambda each: each.__name__)
def test_every_key_has_a_meaning_of_one_line(each: type) -> None:
    for field in dataclasses.fields(each):
        if field.name in GROUPS or field.name in KINDS:
            continue
        meaning = field.metadata["meaning"]
        assert meaning
        assert "\n" not in meaning
        assert len(meaning) < 110


def test_the_groups_are_the_fields_that_are_schemas_and_parts() -> None:
    hints = {field.name for field in dataclasses.fields(ScratchConfig) if not field.metadata}
    assert hints == {*GROUPS, *KINDS}
    assert set(groups()) - {"experiment", "sweep"} == {*GROUPS, *KINDS} - {"checkpoint"}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_file_of_a_kind_is_a_row_of_its_table_with_its_defaults(kind: str) -> None:
    assert set(groups()[kind]) == set(KINDS[kind].rows)
    for name in groups()[kind]:
        config = composed(f"{kind}={name}")
        part = config.parts[kind]
        assert part == check(kind, name)
        for key in keys(kind, name):
            assert key.meaning, f"{kind}.{key.name}"
            assert allowed(key.annotation), f"{kind}.{key.name}"


def test_hidden_layers() -> None:
    for overrides, hidden in (
        ((), (256,)),
        (("depth=3", "width=8"), (8, 8, 8)),
        (("width=[8,4]",), (8, 4)),
    ):
        config = composed(*overrides)
        assert isinstance(config, ScratchConfig)
        assert config.hidden == hidden


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
    with pytest.raises(configuration.ConfigError, match="no such key"):
        configuration.parse(content)
