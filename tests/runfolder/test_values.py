"""The values that an annotation allows, in words."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from harness.runfolder import values
from harness.runfolder.schema import Count, Fraction, NotNegative, Positive


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (float, "a finite number"),
        (Annotated[int, Ge(1)], "a whole number of at least 1"),
        (Annotated[int, Ge(2), Le(28)], "a whole number from 2 to 28"),
        (Annotated[float, Gt(0)], "a finite number above 0"),
        (Annotated[float, Ge(0), Lt(1)], "a number from 0 to below 1"),
        (Annotated[float, Gt(0), Lt(1)], "a number above 0 and below 1"),
        (Annotated[float, Lt(1)], "a finite number below 1"),
        (Annotated[int, Le(1)], "a whole number of at most 1"),
        (bool, "true or false"),
        (str, "a text"),
        (Literal["a", "b"], "a, b"),
        (list[int], "a list, each a whole number"),
        (int | None, "a whole number, or null"),
        (int | list[int], "a whole number or a list, each a whole number"),
        (Path, ""),
        (Count, "a whole number of at least 1"),
        (Fraction, "a number from 0 to below 1"),
        (Positive, "a finite number above 0"),
        (NotNegative, "a finite number of at least 0"),
        (Annotated[int, Field(ge=2)], "a whole number of at least 2"),
        (Annotated[str, Field(min_length=1, description="a name")] | None, "a name, or null"),
        (Annotated[Count, Field(description="a count")], "a count"),
    ],
)
def test_allowed_values_in_words(annotation: Any, words: str) -> None:
    assert values.allowed(annotation) == words
