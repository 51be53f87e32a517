"""Hydra's side of a run or a sweep: composing configurations and expanding a sweep into its jobs.

Everything is composed and validated here, before anything is created; what comes out are frozen
configurations, so that editing `conf/` later cannot change a job that waits.
"""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.run import launcher_schema as engines
from harness.runfolder import config as configuration
from harness.runfolder.config import ConfigError, meanings, suggest
from harness.runfolder.schema import Config

PACKAGE = Path(__file__).resolve().parents[1]
ROOT_CONFIG = "config"


@dataclass(frozen=True)
class Job:
    """One configuration of a command. swept: only the keys that vary, in the command's order."""

    name: str
    swept: dict[str, str]
    config: Config


@dataclass(frozen=True)
class CommandKeys:
    """What may stand among the overrides but is said to the command, not to a run."""

    resume: str | None = None
    fresh: bool = False


ENGINE = re.compile(r"\+*hydra[/.](launcher|sweeper)\b")
COMMAND_KEYS = {
    "resume": "RUN_ID or last: continue an interrupted run with its own frozen settings",
    "fresh": "true: a repeated sweep starts anew instead of going on",
}


def take_command_keys(overrides: list[str]) -> tuple[list[str], CommandKeys]:
    """Part the overrides from the command's own keys. Raises `ConfigError`."""
    found = {}
    rest = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if equals and key in COMMAND_KEYS:
            found[key] = value
        else:
            rest.append(text)
    if found.get("resume") == "":
        raise ConfigError("resume=(nothing): expected a run id or last")
    if found.get("fresh", "true") not in ("true", "false"):
        raise ConfigError(f"fresh={found['fresh']}: expected true or false")
    return rest, CommandKeys(found.get("resume"), found.get("fresh") == "true")


def take_engines(overrides: list[str]) -> tuple[list[str], engines.Engines]:
    """Part the overrides from the groups hydra/launcher and hydra/sweeper. Raises `ConfigError`.

    They are composed from `conf/hydra` by themselves, so that a published plugin with an option of
    the same name, if one is installed, neither replaces nor disturbs ours.
    """
    mine = [text for text in overrides if ENGINE.match(text)]
    rest = [text for text in overrides if text not in mine]
    chosen = {}
    for kind, schemas in engines.SCHEMAS.items():
        name, lines = "basic", []
        for text in mine:
            key, _, value = text.lstrip("+").partition("=")
            if key == f"hydra/{kind}":
                name = value
            elif key.startswith(f"hydra.{kind}"):
                lines.append(text)
        if name not in schemas:
            options = f"{', '.join(schemas)}{suggest(name, schemas)}"
            raise ConfigError(f"hydra/{kind}={name}: expected {options}")
        for text in lines:
            engines.check_key(kind, name, text.lstrip("+").partition("=")[0], text)
        content = {"name": name}
        if name != "basic":
            # Hydra composes `launcher`, the user reads `hydra.launcher`.
            inner = [text.lstrip("+").removeprefix("hydra.") for text in lines]
            try:
                with _composer(conf_path() / "hydra", None) as compose:
                    content = compose([f"+{kind}={name}", *inner])[kind]
            except ConfigError as error:
                why = str(error).partition(": ")[2]
                raise ConfigError(f"{' '.join(lines)}: {why}") from None
        chosen[kind] = engines.parse(kind, content)
    return rest, engines.Engines(**chosen)


def conf_path() -> Path:
    """The folder of configurations: inside the package when installed, beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def groups() -> dict[str, list[str]]:
    """The config groups and their options."""
    folders = (path for path in sorted(conf_path().iterdir()) if path.is_dir())
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in folders
        if folder.name != "hydra"
    }


def expand(overrides: list[str], *, sweep: bool) -> list[Job]:
    """The jobs of a command, in Hydra's order: the last swept key changes fastest.

    Every job is composed and validated; jobs that come to the same configuration are one. Raises
    `ConfigError`, one line, for the first problem.
    """
    choices: list[list[tuple[str, str]]] = []
    swept = []
    for text, override in parsed(overrides):
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices.append([(key, override.input_line or text)])
            continue
        if not sweep:
            raise ConfigError(f"{text}: several values are a sweep; add -m before the overrides")
        with _readable(text):
            values = list(sweep_values(override))
        if not values:
            raise ConfigError(f"{text}: expected at least one value")
        swept.append(key)
        choices.append([(key, f"{key}={value}") for value in values])
    jobs: dict[str, Job] = {}
    with _composer() as compose:
        for combination in itertools.product(*choices):
            lines = [line for _, line in combination]
            varied = {key: line.split("=", 1)[1] for key, line in combination if key in swept}
            name = ",".join(f"{key}={value}" for key, value in varied.items())
            try:
                config = configuration.parse(compose(lines))
            except ConfigError as error:
                where = f" (in the job {name})" if len(varied) > 1 else ""
                raise ConfigError(f"{error}{where}") from None
            job = Job(name or ",".join(lines) or "default", varied, config)
            jobs.setdefault(configuration.to_yaml(config), job)
    return list(jobs.values())


def parsed(overrides: list[str]) -> Iterator[tuple[str, Any]]:
    """Every override with what Hydra's grammar makes of it. Raises `ConfigError`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    for text in overrides:
        with _readable(text):
            override = parser.parse_override(text)
        _check_key(override.get_key_element(), text)
        yield text, override


def composed(lines: list[str], folder: Path | None = None) -> Config:
    """One configuration, from another folder than `conf/` if need be. Raises `ConfigError`."""
    with _composer(folder) as compose:
        return configuration.parse(compose(lines))


def show_config(overrides: list[str]) -> str:
    """What `--cfg job` prints: the composed and validated configuration as YAML."""
    return configuration.to_yaml(expand(overrides, sweep=False)[0].config)


@contextmanager
def _composer(folder: Path | None = None, root: str | None = ROOT_CONFIG) -> Iterator[Any]:
    """A function from override lines to the composed dictionary."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    def composed(lines: list[str]) -> dict[str, Any]:
        with _readable(" ".join(lines)):
            found = compose(root, overrides=lines)
            try:
                content = OmegaConf.to_container(found, resolve=True, throw_on_missing=True)
            except OmegaConfBaseException as error:
                raise ConfigError(str(error).splitlines()[0]) from None
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}

    with initialize_config_dir(str((folder or conf_path()).resolve()), version_base="1.3"):
        yield composed


def sweep_values(override: Any) -> Iterator[str]:
    """The values of a swept override, as typed; of an interval there is no end of them."""
    if override.is_sweep_override() and type(override.value()).__name__ == "IntervalSweep":
        text = override.input_line
        raise ConfigError(f"{text}: an interval is for a search; add hydra/sweeper=optuna")
    # A sweep over a group may be a glob, which is resolved against the options there are.
    if _is_glob(override):
        yield from override.value().filter(groups().get(override.get_key_element(), []))
    else:
        yield from override.sweep_string_iterator()


def is_interval(override: Any) -> bool:
    """Whether the values are those of `interval(a, b)`."""
    from hydra.core.override_parser.types import IntervalSweep

    return isinstance(override.value(), IntervalSweep)


def is_range(override: Any) -> bool:
    """Whether the values are those of `range(a, b)`."""
    from hydra.core.override_parser.types import RangeSweep

    return isinstance(override.value(), RangeSweep)


def _is_glob(override: Any) -> bool:
    from hydra.core.override_parser.types import Glob

    return isinstance(override.value(), Glob)


def _check_key(key: str, text: str) -> None:
    """Refuse a key that the schema does not have, before Hydra says it at length."""
    bare = key.lstrip("+~").split("@")[0]
    known = {*meanings(), *groups(), *COMMAND_KEYS}
    if bare not in known and not bare.startswith("hydra"):
        hint = suggest(bare, known)
        raise ConfigError(f"{text}: there is no such key{hint}; --help lists all keys")


@contextmanager
def _readable(text: str) -> Iterator[None]:
    """Turn what Hydra raises into one line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        message = str(error)
        missing = re.search(r"Could not find '([^'/]+)/([^']*)'", message)
        if missing:
            group, option = missing.groups()
            options = groups().get(group, [])
            line = f"{group}={option}: expected {', '.join(options)}{suggest(option, options)}"
        elif "=" not in text:
            line = f"{text}: expected KEY=VALUE, such as batch=64; --help lists all keys"
        else:
            line = f"{text}: {' '.join(message.splitlines()[:1])}"
        raise ConfigError(line) from None


def shell_completion(arguments: list[str]) -> None:
    """Hydra's own completion for the console script: `-sc install=bash|zsh|fish`, and its
    queries."""
    import sys

    import hydra

    sys.argv = ["harness-run", "-sc", *arguments]
    hydra.main(version_base="1.3", config_path=str(conf_path()), config_name=ROOT_CONFIG)(
        _nothing
    )()


def _nothing(config: Any) -> None:
    """Never called: with -sc Hydra completes and returns."""
