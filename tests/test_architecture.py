"""The rules of the house: imports point down, libraries stay behind their fences."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "harness").rglob("*.py"))

# A folder may import itself and the folders before it.
ORDER = ["data", "nn", "training", "tracking", "analysis", "recognizer"]
NEVER = {"data": {"nn"}, "nn": {"data"}, "analysis": {"training", "tracking"}}
FENCES = {
    "hydra": ("config.py", "run.py", "launch.py"),
    "omegaconf": ("config.py", "run.py", "launch.py", "job.py", "sweep.py"),
    "mlflow": ("tracking/", "recognizer/model.py"),
    "matplotlib": ("analysis/plots.py",),
}
BELOW_CONFIG = ("data", "nn", "training", "analysis")


def imports(path: Path) -> set[str]:
    """The dotted names a module imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports(path: Path) -> None:
    place = path.relative_to(ROOT / "harness").as_posix()
    folder = place.split("/")[0]
    for name in imports(path):
        root, *rest = name.split(".")
        assert root not in FENCES or place.startswith(FENCES[root]), f"{place} imports {name}"
        if root != "harness" or not rest or folder not in ORDER:
            continue
        if rest[0] in ORDER:
            assert ORDER.index(rest[0]) <= ORDER.index(folder), f"{place} imports {name}"
            assert rest[0] not in NEVER.get(folder, set()), f"{place} imports {name}"
        if folder in BELOW_CONFIG:
            assert rest[0] not in ("config", "build"), f"{place} knows the configuration"


def test_the_walk_sees_imports() -> None:
    assert "hydra.errors" in imports(ROOT / "harness/launch.py")
    assert "mlflow" in imports(ROOT / "harness/tracking/store.py")
