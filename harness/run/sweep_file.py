"""A sweep in a file: `-m sweep=NAME` reads `sweep/NAME.yaml`, and `sweep=FILE.yaml` that file.

    seed: range(3)                a key beside `grids` applies to all blocks
    grids:
      - optimizer: sgd            a block is a small grid: every combination of its values
        lr: [0.1, 0.2]
      - optimizer: [adam, adamw]
        lr: [0.001, 0.002]
    exclude:                      a job is left out when it matches all keys of an entry
      - {optimizer: adamw, lr: 0.002}

A value is written as on the command line, also `range(3)` and `choice(a,b)`; a list has several.
A value that is itself a list is a list in the list: `width: [[512, 256], [128]]`.

The union of the blocks is one sweep, in the file's order; equal jobs are one. Overrides on the
command line apply to all blocks and replace the file's values of the same key.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.data.override import suggest
from harness.run import overrides as parsing
from harness.run.compose import choices_of
from harness.run.conf import conf_roots, not_given
from harness.run.overrides import COMMAND_KEYS, instead_of
from harness.runfolder.config import ConfigError, yaml_fault

GRIDS, EXCLUDE = "grids", "exclude"
Choice = tuple[str, str]  # a key and one override of it, KEY=VALUE
Grid = dict[str, list[Choice]]


@dataclass(frozen=True)
class Block:
    """A grid of the file, or an entry of `exclude`. place: the file and the number, for errors."""

    place: str
    grid: Grid


@dataclass(frozen=True)
class SweepFile:
    """The content of a file; Hydra's grammar accepts every key and value."""

    path: Path
    blocks: list[Block]
    exclude: list[Block]


def read(name: str) -> SweepFile:
    """Read `sweep/NAME.yaml` from the first folder that has it. Raises `ConfigError`, one line."""
    path = _find(name)
    content = _load(path)
    if not isinstance(content, dict) or GRIDS not in content:
        found = ", ".join(content) if isinstance(content, dict) else "none"
        raise ConfigError(f"{path}: expected grids: and a list of blocks, found {found}")
    grids, entries = (_list(path, key, content.get(key)) for key in (GRIDS, EXCLUDE))
    shared = _grid(str(path), {k: v for k, v in content.items() if k not in (GRIDS, EXCLUDE)})
    before = list(content)[: list(content).index(GRIDS)]
    blocks = []
    for number, values in enumerate(grids, 1):
        place = f"{path}, block {number}"
        own = _grid(place, _mapping(place, values))
        rest = {key: choices for key, choices in shared.items() if key not in own}
        first = {key: choices for key, choices in rest.items() if key in before}
        blocks.append(Block(place, first | own | rest))
    exclude = []
    for number, values in enumerate(entries, 1):
        place = f"{path}, exclude {number}"
        exclude.append(Block(place, _grid(place, _mapping(place, values))))
    return SweepFile(path, blocks, exclude)


def names() -> list[str]:
    """The names of all sweep files."""
    return sorted(
        {path.stem for root in conf_roots() for path in root.glob("sweep/*.yaml") if path.is_file()}
    )


def _find(name: str) -> Path:
    if name.endswith(".yaml"):
        if not Path(name).is_file():
            raise ConfigError(f"sweep={name}: there is no such file; a name has no .yaml")
        return Path(name)
    known = names()
    if name not in known:
        expected = ", ".join(known) or "a file that exists"
        hint = not_given("sweep", name) or suggest(name, known)
        if name and Path(f"{name}.yaml").is_file():
            hint = f"; to use that file, type sweep={name}.yaml"
        raise ConfigError(f"sweep={name or '(nothing)'}: expected {expected}{hint}")
    paths = (root / "sweep" / f"{name}.yaml" for root in conf_roots())
    path = next(path for path in paths if path.is_file())
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class _Loader(yaml.BaseLoader):
    """Reads every value as typed text; refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See `yaml.constructor.BaseConstructor`."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, (key, (mark, _)) in enumerate(zip(keys, node.value, strict=True)):
            if key in keys[:number]:
                line = mark.start_mark.line + 1
                raise ConfigError(f"line {line}: {key} is given twice; give it once")
        return super().construct_mapping(node, deep)


def _load(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {yaml_fault(error)}") from None


def _list(path: Path, key: str, content: Any) -> list[Any]:
    if content is None and key == EXCLUDE:
        return []
    if not isinstance(content, list) or not content:
        raise ConfigError(f"{path}: {key}: expected a list of blocks, found {_shown(content)}")
    return content


def _mapping(place: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        raise ConfigError(
            f"{place}: expected keys with values, such as lr: [0.1, 0.2]; found {_shown(content)}"
        )
    return content


def _shown(content: Any) -> str:
    return str(content) if content else "nothing"


def _grid(place: str, content: Mapping[str, Any]) -> Grid:
    """The overrides that keys with values stand for. Raises `ConfigError` naming the place."""
    grid: Grid = {}
    for key, values in content.items():
        with _at(place):
            _check_key(key, values)
            texts = values if isinstance(values, list) else [values]
            lines = [f"{key}={_typed(key, text)}" for text in texts]
            if not lines:
                raise ConfigError(f"{key}: [] has no value; expected at least one")
            settings = [each for line in lines for each in parsing.parse([line]).settings]
            grid[key] = [choice for each in settings for choice in choices_of(each, sweep=True)]
    return grid


@contextmanager
def _at(place: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _check_key(key: str, values: Any) -> None:
    """Refuse a key that no run has. Raises `ConfigError`."""
    if key in COMMAND_KEYS:
        raise ConfigError(f"{key}: is a key of the command; give it on the command line")
    if key.partition("/")[0].partition(".")[0] == "hydra":
        inner = next(iter(values)) if isinstance(values, dict) and values else ""
        hint = instead_of(f"{key}.{inner}".strip(".")) or "give it on the command line"
        raise ConfigError(f"{key}: has no effect in a sweep file; {hint}")
    if isinstance(values, dict) or any(isinstance(each, dict) for each in values):
        inner = next(iter(values)) if isinstance(values, dict) and values else ""
        near = suggest(key, (GRIDS, EXCLUDE)) or (f"; write {key}.{inner}: ..." if inner else "")
        raise ConfigError(f"{key}: expected a value or a list of values{near}")


def _typed(key: str, value: Any) -> str:
    """A value as typed on the command line."""
    if isinstance(value, list):
        return f"[{','.join(_typed(key, each) for each in value)}]"
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{key}: expected a value or a list of values, found {_shown(value)}")
    if value.count("(") != value.count(")"):  # YAML has split it at its comma
        raise ConfigError(
            f"{key}={value}: inside {{}} or [], YAML needs quotes around a value with a comma: "
            f'{key}: "range(1,3)"'
        )
    return "null" if value == "~" else value
