"""Overrides as they are typed: any text arrives as it is."""

import shlex

import pytest

from harness.data.override import quoted
from harness.run import overrides


@pytest.mark.parametrize(
    "value",
    [
        "",
        "12",
        "a b\\c d",
        "a\\\\b",
        "a b\\",
        'a\\"b',
        'a"b',
        "it's",
        "a=1,2",
        "[x]{y}",
        "\\",
        "ü",
        "$HOME",
    ],
)
def test_any_text_arrives_as_it_is(value: str) -> None:
    (text,) = shlex.split(quoted("k", value))
    (override,) = overrides.parse_each([text])
    assert overrides.value_text(override) == value
