"""Commands as a message tells the user to type them."""

from pathlib import Path

import pytest

from harness.runfolder.hint import hint


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (Path("outputs"), "python -m harness restore abc"),
        ([Path("outputs")], "python -m harness restore abc"),
        (Path("my runs"), "python -m harness restore abc --outputs 'my runs'"),
        (
            [Path("outputs"), Path("/b")],
            "python -m harness restore abc --outputs outputs --outputs /b",
        ),
    ],
)
def test_a_command_names_the_outputs_unless_they_are_the_default(
    outputs: Path | list[Path], expected: str
) -> None:
    assert hint("restore", "abc", outputs=outputs) == expected
