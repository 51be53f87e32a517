"""What `harness confirm` refuses; what it trains is in tests/run/search/test_search.py."""

from pathlib import Path

import pytest

from harness.commands import confirm
from harness.run import overrides
from harness.run.search import space
from harness.runfolder.plan import Plan
from tests.conftest import Command, new_run


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["xaaaaaaaaa"], "'xaaaaaaaaa' is not a search: expected one with hydra/sweeper=optuna"),
        (["last"], "has no trials of search xbbbbbbbbb; repeat its command"),
        (["nothing"], "'nothing' is no run, sweep, name or experiment in outputs"),
        (["last", "--top", "1"], "--top 1: expected a whole number of at least 2"),
    ],
)
def test_what_cannot_be_confirmed(
    command: Command, tmp_path: Path, words: list[str], problem: str
) -> None:
    outputs = tmp_path / "outputs"
    new_run(outputs, "tracking=none")
    Plan("xaaaaaaaaa", ("-m", "lr=0.1,0.2"), ()).save(outputs)
    Plan("xbbbbbbbbb", ("-m", "hydra/sweeper=optuna", "lr=0.1,0.2"), ()).save(outputs)
    done = command("harness", "confirm", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr


@pytest.mark.parametrize("text", ["objective=[val/loss,parameters]", "objective=val/loss"])
def test_what_is_confirmed_has_all_objectives(text: str) -> None:
    """So that its table and its report have the front as well."""
    line = overrides.parse([text, "lr=0.1,0.2", "batch=16"])
    fixed, _, _ = space.split(line.settings)
    assert confirm.objectives(fixed, line) == [text, "batch=16"]
