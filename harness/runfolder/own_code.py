"""Import the user's own modules, such as `mine.parts:Lion`, and find their source files.

Modules are found in the working directory, in a command's configuration folders, and wherever
Python finds modules. A run records the digest of each source file of its modules and keeps a copy
in `code/` for the record: nothing is ever imported from there.
"""

import ast
import contextlib
import contextvars
import hashlib
import importlib
import importlib.util
import itertools
import json
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.runfolder import syntax
from harness.runfolder.optional import warn

PACKAGE = Path(__file__).resolve().parents[1]  # the harness itself
FOLDER = "code"  # the copies in a run folder
LONGEST = 1000  # characters of a message from the user's code
_first: dict[str, str] = {}  # path -> its digest when this process first used it
_folders: contextvars.ContextVar[tuple[Path, ...]] = contextvars.ContextVar("own", default=())


class OwnCodeError(ValueError):
    """The user's code is missing, changed, or fails; the message is one line."""


@dataclass(frozen=True)
class Source:
    """One source file.

    root: the folder that Python searches; path: relative to it, with slashes; syntax: the digest of
    its syntax tree.
    """

    root: str
    path: str
    syntax: str

    @property
    def file(self) -> Path:
        """The file."""
        return Path(self.root, self.path)


def folders() -> tuple[Path, ...]:
    """The folders of `searching`; in a command, those of `--config-dir`."""
    return _folders.get()


@contextlib.contextmanager
def searching(folders: Iterable[str | Path]) -> Iterator[None]:
    """Search these folders as well, after the working directory."""
    token = _folders.set((*_folders.get(), *(Path(each).resolve() for each in folders)))
    try:
        yield
    finally:
        _folders.reset(token)


@contextlib.contextmanager
def staying() -> Iterator[None]:
    """Restore the working directory, where `outputs` is, after user code that may change it."""
    here = Path.cwd()
    try:
        yield
    finally:
        os.chdir(here)


def load(name: str, key: str) -> Any:
    """Import what `MODULE:NAME` names.

    key: the setting whose value it is. Raises `OwnCodeError`, one line with the module's own error
    and the line that raised it.
    """
    module_name, _, attribute = name.partition(":")
    if not _is_name(name):
        raise OwnCodeError(f"{key}={name}: expected MODULE:NAME, such as mine.parts:Lion")
    if module_name == "__main__":
        raise OwnCodeError(
            f"{key}={name}: a job cannot import from an interactive session or the main script; "
            f"put {attribute} into a module file such as mine.py, and type {key}=mine:{attribute}"
        )
    _extend_path()
    try:
        with staying():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise OwnCodeError(
                f"{key}={name}: there is no module {error.name} in {_searched()}"
            ) from None
        raise OwnCodeError(f"{key}={name}: {described(error)}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise OwnCodeError(f"{key}={name}: {described(error)}") from error
    if not hasattr(module, attribute):
        names = ", ".join(_defined(Path(module.__file__ or ""))) or "no function or class"
        raise OwnCodeError(f"{key}={name}: {module_name} has no {attribute}; it has {names}")
    return getattr(module, attribute)


def _is_name(name: str) -> bool:
    """Whether it is `MODULE:NAME`."""
    module, _, attribute = name.partition(":")
    return all(part.isidentifier() for part in [*module.split("."), attribute])


def candidates(module: str) -> str:
    """What a module name without `:NAME` could mean: `mine.parts:Lion or mine.parts:swish`.

    Empty if the working directory and the configuration folders have no such module, or it defines
    nothing. It is not imported.
    """
    for folder in [Path.cwd(), *_folders.get()]:
        base = folder.joinpath(*module.split("."))
        for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if module and file.is_file() and (names := _defined(file)):
                return " or ".join(f"{module}:{name}" for name in names)
    return ""


def _defined(file: Path) -> list[str]:
    """The public functions and classes that a source file defines."""
    with contextlib.suppress(SyntaxError, OSError):
        nodes = ast.parse(file.read_bytes()).body
        names = [each.name for each in nodes if isinstance(each, (ast.FunctionDef, ast.ClassDef))]
        return [name for name in names if not name.startswith("_")]
    return []


def shown(value: object) -> str:
    """A user's value for a message: its `repr`, cut off; a note if that fails."""
    return _safe(repr, value)


def message(error: BaseException) -> str:
    """The text of an exception in one line, cut off; a note if the user's `__str__` fails."""
    return _safe(str, error)


def _safe(spell: Callable[[Any], str], value: object) -> str:
    try:
        text = " ".join(spell(value).split())
    except Exception as error:  # whatever the user's method raises
        return f"(its text cannot be shown: {type(error).__name__})"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def described(error: BaseException) -> str:
    """An exception in one line, with the place in the user's code that raised it."""
    if isinstance(error, OwnCodeError):
        return str(error)  # it has the place
    text = message(error)
    if isinstance(error, ImportError) and error.path:  # without the file of the other module
        text = text.removesuffix(f" ({error.path})")
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__:
        causes.append(cause)
    frames = [
        frame
        for each in causes
        for frame in traceback.extract_tb(each.__traceback__)
        if not frame.filename.startswith("<") and not _is_in(frame, PACKAGE)
    ]
    # Skip libraries that the user's code calls, unless that code is itself installed.
    own = [each for each in frames if not _is_in(each, *_installed())] or frames
    if isinstance(error, SyntaxError):
        return f"{text}"
    return f"{text} ({own[-1].filename}, line {own[-1].lineno})" if own else text


def _is_in(frame: traceback.FrameSummary, *folders: Path) -> bool:
    return any(Path(frame.filename).resolve().is_relative_to(each.resolve()) for each in folders)


def sources(names: Iterable[str]) -> list[Source]:
    """The source files of the modules that `MODULE:NAME` names, and of their local imports.

    It follows import statements to files under the same root (the folder that Python searches) or
    under another folder of the user's; in an installed package, only to files of that package.
    Sorted by path. Raises `OwnCodeError`.
    """
    found: dict[Path, Source] = {}
    names = list(names)
    if names:
        _extend_path()
    for name in names:
        module = name.partition(":")[0]
        spec = _find(module)
        if spec is None:
            raise OwnCodeError(f"{name}: there is no module {module} in {_searched()}")
        if spec.origin is None or not spec.origin.endswith(".py"):
            raise OwnCodeError(f"{name}: expected a module with a source file")
        file = Path(spec.origin).absolute()
        depth = len(module.split(".")) - (file.name != "__init__.py")
        root = file.parents[depth]
        _follow(file, root, root / module.split(".")[0], found)
    return sorted(found.values(), key=lambda each: (each.path, each.root))


def libraries(files: Iterable[Source]) -> list[str]:
    """The top-level modules that the user's files import, except their own and Python's.

    This includes imports inside functions.
    """
    files = list(files)
    own = {each.path.partition("/")[0].removesuffix(".py") for each in files}
    known = own | sys.stdlib_module_names | {PACKAGE.name}
    names = {
        module.partition(".")[0]
        for each in files
        for module in _imports(each.file, Path(each.root))
    }
    return sorted(names - known)


def _find(module: str) -> Any:
    """The specification of a module, or None; the packages around it are not imported."""
    found, path = None, None
    for name in itertools.accumulate(module.split("."), "{}.{}".format):
        try:
            specs = (each.find_spec(name, path) for each in sys.meta_path)
            found = next((spec for spec in specs if spec is not None), None)
        except KeyError:  # a package without __init__.py inside another
            return importlib.util.find_spec(module)
        if found is None:
            return None
        path = found.submodule_search_locations or []
    return found


def digest(files: Iterable[Source]) -> str:
    """The digest of the user's source files, wherever they are."""
    total = hashlib.sha256()
    for each in files:
        total.update(f"{each.path}\0{each.syntax}\n".encode())
    return total.hexdigest()


def key_of(name: str, options: Mapping[str, Any], code: str) -> str:
    """The digest of what a function with these options and this source returns."""
    text = json.dumps([name, options, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def use(
    recorded: Iterable[Mapping[str, str]],
    needed: Iterable[str] | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Make a run's modules importable after comparing them with those it was frozen with.

    recorded: root, path and syntax of each file. A file is searched for in the working directory,
    in the configuration folders, and where it was. needed: each MODULE:NAME that will be imported,
    None for all. Raises `OwnCodeError`, one line, for a file that is missing or differs; a file
    that is not needed causes only a warning, or nothing if `quiet`.
    """
    problems = {}
    for each in recorded:
        if problem := _placed(each):
            problems[each["path"]] = problem
    if not problems:
        return
    if needed is not None:
        needed = list(needed)
        own = _files_of(needed)
        for path in own & problems.keys():
            raise OwnCodeError(problems[path])
        own |= {each.path for each in sources(needed)}
        for path in problems.keys() - own:
            problem = problems.pop(path)
            if not quiet:
                warn(what_differs(problem), "it is not needed here")
    for problem in problems.values():
        raise OwnCodeError(problem)


def what_differs(problem: str | OwnCodeError) -> str:
    """The error message of `use` without the advice."""
    return str(problem).partition("; ")[0]


def use_same(names: Iterable[str], recorded: Any, run: str) -> None:
    """Make the modules of `MODULE:NAME` importable if they are as they were for a run.

    This is for a network from a store. recorded: the digest of each file by its path; it is only
    compared. Modules are found in the working directory, in the configuration folders and on
    PYTHONPATH; installed ones are not imported. run: its id. Raises `OwnCodeError`, one line.
    """
    names = list(names)
    if not names:
        return
    if not isinstance(recorded, Mapping) or not recorded:
        raise OwnCodeError(
            f"run {run} uses {', '.join(names)}, and no digest of the module was stored; use the "
            "run where it was trained, with --run"
        )
    _extend_path()
    for name in names:
        if not _is_name(name):
            raise OwnCodeError(f"run {run} uses {name[:80]!r}: expected MODULE:NAME")
        found = _find(name.partition(":")[0])
        where = Path(getattr(found, "origin", None) or "").resolve()
        if any(folder in where.parents for folder in (*_installed(), PACKAGE)):
            raise OwnCodeError(
                f"run {run} uses {name}, an installed module, which is not imported for a network "
                "from a store; use the run where it was trained, with --run"
            )
    try:
        files = sources(names)
    except OwnCodeError as error:
        raise OwnCodeError(
            f"run {run} uses {error}; start where it is, or name its folder with --config-dir"
        ) from None
    here = {each.path: each for each in files}
    for path in sorted(recorded.keys() - here.keys()):
        raise OwnCodeError(
            f"{path[:80]!r}: run {run} uses this module, which is not in {_searched()}"
        )
    for path, each in here.items():
        if recorded.get(path) != each.syntax:
            raise OwnCodeError(
                f"{each.file}: is not what run {run} was trained with; restore it (the run keeps a "
                f"copy, in {FOLDER}/)"
            )
        if problem := _another(each.file, path, each.syntax):
            raise OwnCodeError(problem)


def _another(file: Path, path: str, digest: str) -> str | None:
    """What is wrong if this process may have imported other source under a file's name, else None.

    The file was changed since, or is in another folder. path: relative to its root.
    """
    if _first.setdefault(path, digest) == digest:
        return None
    return f"{file}: is not the module of its name that is imported already; start another process"


def _files_of(names: Iterable[str]) -> set[str]:
    """The paths that the modules of `MODULE:NAME` may have."""
    bases = [name.partition(":")[0].replace(".", "/") for name in names]
    return {f"{base}{end}" for base in bases for end in (".py", "/__init__.py")}


def _placed(each: Mapping[str, str]) -> str | None:
    """Make a recorded file importable; return what is wrong with it, None if unchanged."""
    roots = [Path.cwd(), *_folders.get(), Path(each["root"]), *map(Path, sys.path)]
    root = next((root for root in roots if (root / each["path"]).is_file()), None)
    if root is None:
        searched = _searched(Path(each["root"]))
        return (
            f"{each['path']}: the run uses this module, which is not in {searched}; the run keeps "
            f"a copy for the record, in {FOLDER}/"
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    now = _syntax_of(root / each["path"])
    if now != each["syntax"]:
        return (
            f"{root / each['path']}: was changed after the run was frozen; restore it (the run "
            f"keeps a copy, in {FOLDER}/) or start the run again"
        )
    return _another(root / each["path"], each["path"], now)


def _follow(file: Path, root: Path, package: Path, found: dict[Path, Source]) -> None:
    """Add a source file and its imports from the same root or another folder of the user's."""
    if file in found or PACKAGE in file.resolve().parents:
        return
    found[file] = Source(str(root), file.relative_to(root).as_posix(), _syntax_of(file))
    installed = root in _installed()
    roots = [root] if installed else [root, Path.cwd(), *_folders.get()]
    for module in _imports(file, root):
        for each in roots:
            base = each.joinpath(*module.split("."))
            candidates = [c for c in (base.with_suffix(".py"), base / "__init__.py") if c.is_file()]
            for candidate in candidates:
                if not installed or package in candidate.parents:
                    _follow(candidate, each, package, found)
            if candidates:
                break


def _imports(file: Path, root: Path) -> Iterator[str]:
    """The modules that import statements of a source file may name, and their packages."""
    tree = ast.parse(file.read_bytes())
    here = list(file.relative_to(root).parent.parts)
    for node in ast.walk(tree):
        names: list[list[str]] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            base = above + (node.module.split(".") if node.module else [])
            names = [base, *([*base, alias.name] for alias in node.names)]
        for parts in names:
            for end in range(1, len(parts) + 1):
                yield ".".join(parts[:end])
    for end in range(1, len(here) + 1):
        yield ".".join(here[:end])


def _syntax_of(file: Path) -> str:
    try:
        return syntax.digest(file.read_bytes())
    except SyntaxError as error:
        raise OwnCodeError(f"{file}: {error}") from error


def _installed() -> set[Path]:
    """The folders of installed packages and of the standard library."""
    paths = sysconfig.get_paths()
    return {Path(paths[name]).resolve() for name in ("purelib", "platlib", "stdlib")}


def _searched(*more: Path) -> str:
    return " or ".join(dict.fromkeys(map(str, [Path.cwd(), *_folders.get(), *more])))


def _extend_path() -> None:
    """Put the working directory and the other folders on Python's search path.

    They stay there, because modules can import others later.
    """
    for folder in reversed([Path.cwd(), *_folders.get()]):
        if str(folder) not in sys.path and not (folder == Path.cwd() and "" in sys.path):
            sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
