"""The rules of the house: rooms, imports that point down, fenced libraries, a test per module."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "harness"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# The rooms from the bottom up. A file imports from its own room and from lower ones; rooms in one
# line do not import from each other.
FLOORS = (
    ("data",),
    ("nn",),
    ("training",),
    ("runfolder",),
    ("tracking", "job"),
    ("analysis", "recognizer"),
    ("run",),
    ("commands",),
)
RANK = {room: rank for rank, rooms in enumerate(FLOORS) for room in rooms}
TOP = ("__init__.py", "__main__.py")
# Where heavy or special libraries may be imported.
FENCES = {
    "hydra": ("run/",),
    "omegaconf": ("run/",),
    "optuna": ("run/search/",),
    "submitit": ("run/launchers/slurm.py", "run/launchers/slurm_queue.py"),
    "joblib": (),
    "mlflow": (
        "tracking/",
        "recognizer/champion.py",
        "recognizer/registry.py",
        "recognizer/logged_model.py",
    ),
    "matplotlib": (
        "analysis/plots.py",
        "analysis/charts.py",
        "analysis/drawing.py",
        "analysis/fonts.py",
        "analysis/search_charts.py",
    ),
    "numba": ("nn/compiled/",),
    "llvmlite": tuple(f"nn/compiled/{name}.py" for name in ("blas", "meeting", "patches", "simd")),
    "pandas": (
        "analysis/frames.py",
        "recognizer/logged_model.py",
        "runfolder/run.py",
        "runfolder/sweep.py",
    ),
    "starlette": ("recognizer/server.py", "recognizer/guard.py"),
    "uvicorn": ("recognizer/server.py", "tracking/mlflow_private.py"),
}
# Where MLflow's private parts are used.
PRIVATE = re.compile(r"\bmlflow\.(store|utils)\b|\._tracking_client\b|sharedViewState")
# Rooms and files that know no configuration: their functions take plain values.
BELOW_CONFIG = ("data", "nn", "training")
KNOWS_RUNS = (
    "analysis/comparable.py",
    "analysis/compare.py",
    "analysis/diff.py",
    "analysis/evidence.py",
    "analysis/frames.py",
    "analysis/measure.py",
    "analysis/ranked.py",
    "analysis/run_plots.py",
    "analysis/trials.py",
)
# Plain values, not runs: the name of a metric and which of its values are better. They are not in
# nn/, because their words would be part of what run keys are made of.
METRIC_NAMES = {PACKAGE / "runfolder/objective.py", PACKAGE / "runfolder/cost.py"}


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room(path: Path) -> str:
    return place(path).split("/")[0]


@cache
def imports(path: Path) -> set[str]:
    """The dotted names a module imports, wherever it does so."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@cache
def modules(path: Path) -> set[Path]:
    """The files of the package that a module imports."""
    files = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "harness":
            base = PACKAGE.joinpath(*parts[1:])
            files |= {file for file in (base.with_suffix(".py"), base / "__init__.py")
                      if file.is_file()}  # fmt: skip
    return files


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_every_file_is_in_a_room(path: Path) -> None:
    assert room(path) in RANK or place(path) in TOP


@pytest.mark.parametrize("path", [p for p in SOURCES if place(p) not in TOP], ids=place)
def test_imports_point_down(path: Path) -> None:
    for other in modules(path):
        if place(other) in TOP:
            assert place(other) == "__init__.py", f"{place(path)} imports {place(other)}"
        elif room(other) != room(path):
            assert RANK[room(other)] < RANK[room(path)], f"{place(path)} imports {place(other)}"


def test_no_import_is_circular() -> None:
    graph = {path: modules(path) - {path} for path in SOURCES}
    done: set[Path] = set()

    def visit(path: Path, above: tuple[Path, ...]) -> None:
        assert path not in above, " -> ".join(map(place, (*above[above.index(path) :], path)))
        if path not in done:
            for other in graph[path]:
                visit(other, (*above, path))
            done.add(path)

    for path in SOURCES:
        visit(path, ())


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_libraries_stay_behind_their_fences(path: Path) -> None:
    for name in imports(path):
        library = name.split(".")[0]
        allowed = FENCES.get(library, ("",))
        assert place(path).startswith(allowed), f"{place(path)} imports {name}"
    if PRIVATE.search(path.read_text()):
        assert place(path) == "tracking/mlflow_private.py", f"{place(path)} uses a private part"


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_functions_below_the_config_take_plain_values(path: Path) -> None:
    if room(path) in BELOW_CONFIG:
        assert not [other for other in modules(path) if RANK[room(other)] > RANK["training"]]
    if room(path) == "analysis" and place(path) not in KNOWS_RUNS:
        rooms = {room(other) for other in modules(path) - METRIC_NAMES} - {"analysis"}
        assert rooms <= {"nn", "data"}, f"{place(path)} knows {rooms}"
    if path in METRIC_NAMES:
        assert {room(other) for other in modules(path) - METRIC_NAMES} <= {"nn", "data"}


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.name != "__init__.py"], ids=place
)
def test_every_module_has_a_test(path: Path) -> None:
    """A test file of its name, or one that has it in the line `Covers:` of its docstring."""
    stem = "main" if path.stem == "__main__" else path.stem
    mirrored = ROOT / "tests" / Path(place(path)).with_name(f"test_{stem}.py")
    assert mirrored.is_file() or place(path) in covered(), f"{place(path)} has no test"


@cache
def covered() -> set[str]:
    """The modules that test files name in the line `Covers:` of their docstring."""
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        match = re.search(r"^Covers: (.*)\Z", text, re.MULTILINE | re.DOTALL)
        if match:
            names |= set(match[1].replace(",", " ").split())
    return {name.removeprefix("harness/") for name in names}


def test_only_modules_that_exist_are_covered() -> None:
    assert covered() <= {place(path) for path in SOURCES}


def test_the_walk_sees_imports() -> None:
    assert "hydra.errors" in imports(PACKAGE / "run/hydra_errors.py")
    assert "mlflow" in imports(PACKAGE / "tracking/store.py")
    assert PACKAGE / "nn/metrics.py" in modules(PACKAGE / "run/run_table.py")


def test_ci_runs_the_tests_that_the_default_leaves_out() -> None:
    """The README's command and that of `.ci/run` together run every test, once."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    default = str(options["ini_options"]["addopts"]).partition("-m ")[2].strip("'")
    left_out = [each.removeprefix("not ") for each in default.split(" and ")]
    text = (ROOT / ".ci" / "run").read_text()
    (command,) = re.findall(r"^python -m pytest .*$", text, re.MULTILINE)
    assert f'-m "{" or ".join(left_out)}"' in command
