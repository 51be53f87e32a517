"""Every test that the documentation cites exists."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
CITED = re.compile(r"`(?:(?P<path>[\w./]*test_\w+\.py)(?:::(?P<name>\w+))?|(?P<bare>test_\w+))`")


def functions(path: Path) -> set[str]:
    """The names of all functions in a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda p: p.name)
def test_every_cited_test_exists(page: Path) -> None:
    """`path::name` in that file, a bare `test_name` in any."""
    everywhere = {name for path in (ROOT / "tests").rglob("test_*.py") for name in functions(path)}
    for match in CITED.finditer(page.read_text()):
        names = everywhere
        if match["path"]:
            file = ROOT / "tests" / match["path"].removeprefix("tests/")
            assert file.is_file(), match[0]
            names = functions(file)
        name = match["name"] or match["bare"]
        assert name is None or name in names, match[0]


def test_the_table_of_faults_names_a_test_for_every_fault() -> None:
    lines = (ROOT / "docs/faults.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| **")]
    for row in rows[1:]:
        assert CITED.search(row.split(" | ")[-1]), row
