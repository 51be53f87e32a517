"""What the README, CONTRIBUTING and docs/ refer to exists: files, modules, names and links."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = {"conf", "docs", "harness", "tests"}
ROOMS = {path.name for path in (ROOT / "harness").iterdir() if path.is_dir()}
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"(?!.*NAME)[\w.-]+(/[\w.*-]+)*/?")  # NAME: a placeholder
# A name and the file that defines it: `SQUEUE_S` in `harness/run/launchers/slurm_queue.py`.
DEFINED_IN = re.compile(r"`(\w+)`\s+in\s+`([\w./-]+\.py)`")
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def words(page: Path) -> Iterator[tuple[str, bool]]:
    """The words of code blocks and code spans; whether the word is in a span."""
    text = page.read_text()
    for block in FENCED.findall(text):
        yield from ((word, False) for word in block.split())
    for span in SPAN.findall(FENCED.sub("", text)):
        yield from ((word, True) for word in span.split())


def paths(page: Path) -> Iterator[str]:
    """The words that are paths below the repository, or below `harness/` in a span."""
    for word, in_span in words(page):
        folder, slash, _ = word.partition("/")
        if slash and PATH.fullmatch(word) and folder in (TOP | ROOMS if in_span else TOP):
            yield word


def exists(path: str) -> bool:
    return any(any(base.glob(path.rstrip("/"))) for base in (ROOT, ROOT / "harness"))


@by_page
def test_every_path_exists(page: Path) -> None:
    assert [path for path in paths(page) if not exists(path)] == []


def test_paths_are_found() -> None:
    """The patterns match: a page without a path would pass the test above."""
    found = {path for page in PAGES for path in paths(page)}
    assert {
        "harness/run/launchers/slurm_queue.py",
        "nn/compiled/simd.py",
        "tests/benchmarks/bench_parallel.py",
        "tests/tracking/test_team.py",
    } <= found
    assert not exists("harness/queues.py")


@by_page
def test_every_module_that_is_run_exists(page: Path) -> None:
    for module in re.findall(r"python -m ((?:harness|tests)[\w.]*)", page.read_text()):
        path = ROOT / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@by_page
def test_every_name_in_a_file_is_defined_there(page: Path) -> None:
    for name, path in DEFINED_IN.findall(page.read_text()):
        file = ROOT / path if path.startswith("harness/") else ROOT / "harness" / path
        assert re.search(rf"^(?:def |class )?{name}\b", file.read_text(), re.MULTILINE), name


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@by_page
def test_what_the_examples_import_is_public(page: Path) -> None:
    """`__all__` lists it; a module that is imported whole has such a list."""
    code = "\n".join(
        re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
    for module, names in re.findall(r"^from (harness[\w.]*) import (.+)$", code, re.MULTILINE):
        public = getattr(importlib.import_module(module), "__all__", None)
        for name in names.split(", "):
            if public is None:  # a package
                assert importlib.import_module(f"{module}.{name}").__all__
            else:
                assert name in public, f"{module}.{name}"
