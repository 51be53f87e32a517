"""Commands as a message tells the user to type them."""

from pathlib import Path

import pytest

from harness.runfolder.hint import continuing, hint


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


def test_the_command_that_continues_a_run_names_its_outputs() -> None:
    assert continuing("3f-1", Path("outputs")) == "python -m harness.run resume=3f-1"
    expected = "python -m harness.run resume=3f-1 'outputs=\"my runs\"'"
    assert continuing("3f-1", Path("my runs")) == expected
