"""Composing configurations with Hydra, and expanding a sweep into its jobs.

Everything is composed and validated here, before anything is created. The results are frozen, so
editing `conf/` later cannot change a job that waits.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.override import spell, suggest
from harness.run import launcher_schema
from harness.run.conf import conf_path, including, own_folders
from harness.run.grammar import MAX_VALUES, check_swept_once, sweep_values, tags
from harness.run.launcher_schema import Engines
from harness.run.overrides import (
    ENGINES,
    ENVIRONMENT,
    NO_EFFECT,
    SEARCH_PATH,
    instead_of,
    one_line_errors,
    text_of,
    value_text,
)
from harness.runfolder import config as configuration
from harness.runfolder import parts
from harness.runfolder.config import ConfigError
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.parts import DATASET, KINDS, SCRATCH, PartError
from harness.runfolder.schema import Config

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

ROOT_CONFIG = "config"
SHELLS = ("bash", "zsh", "fish")
IN_A_FILE = "in a configuration file: has no effect"
# What composing itself sets.
COMPOSED = (
    "hydra.runtime.",
    "hydra.overrides.",
    "hydra.job.override_dirname",
    "hydra.job.config_name",
    SEARCH_PATH,
)
LOGGING = ("hydra.job_logging", "hydra.hydra_logging")
LINE = "COMP_LINE"  # the variable in which a shell gives the line that it completes
OPTIONS = re.compile(
    r"(?<=\s)(?:(?:--config-dir|-cd)[=\s]\s*(\S+)|--ids[=\s]\s*\S+|--dry-run)(?=\s)"
)
Composer = Callable[[list[str]], dict[str, Any]]


@dataclass(frozen=True)
class Job:
    """One configuration of a command. swept: only the keys that vary, in the command's order."""

    name: str
    swept: dict[str, str]
    config: Config


def expand(overrides: "list[Override]", *, sweep: bool) -> list[Job]:
    """The jobs of a command, in Hydra's order: the last swept key changes fastest.

    Every job is composed and validated; jobs with the same configuration are one. Raises
    `ConfigError`, one line, for the first problem.
    """
    check_swept_once(overrides)
    choices = [choices_of(override, sweep=sweep) for override in overrides]
    swept = [override.key_or_group for override in overrides if override.is_sweep_override()]
    count = math.prod(map(len, choices))
    if count > MAX_VALUES:
        raise ConfigError(f"these values give {count:,} jobs; expected at most {MAX_VALUES:,}")
    jobs: dict[str, Job] = {}
    with composer() as compose:
        for combination in itertools.product(*choices):
            job = _job(compose, combination, swept)
            jobs.setdefault(configuration.to_yaml(job.config), job)
    return list(jobs.values())


def choices_of(override: "Override", *, sweep: bool) -> list[tuple[str, str]]:
    """The key of an override with each of the overrides it stands for. Raises `ConfigError`."""
    key, text = override.key_or_group, text_of(override)
    if not override.is_sweep_override():
        return [(key, text)]
    if not sweep:
        raise ConfigError(f"{text}: several values are a sweep; add -m before the overrides")
    with one_line_errors(text):
        values = list(sweep_values(override))
    if not values:
        raise ConfigError(f"{text}: expected at least one value")
    if tags(override):
        raise ConfigError(
            f"{text}: tag() is for a search; add hydra/sweeper=optuna or leave it out"
        )
    return [(key, f"{override.get_key_element()}={value}") for value in values]


def _job(compose: Composer, combination: tuple[tuple[str, str], ...], swept: list[str]) -> Job:
    """The job of one combination of (key, override) pairs."""
    lines = [line for _, line in combination]
    varied = {key: line.split("=", 1)[1] for key, line in combination if key in swept}
    name = ",".join(f"{key}={value}" for key, value in varied.items())
    try:
        config = parsed(compose, lines)
    except ConfigError as error:
        where = f" (in the job {name})" if len(varied) > 1 else ""
        raise ConfigError(f"{error}{where}") from None
    return Job(name or ",".join(lines) or "default", varied, config)


def parsed(compose: Composer, lines: list[str]) -> Config:
    """The configuration that override lines give. Raises `ConfigError`."""
    content = compose(lines)
    _check_used(content, compose, lines)
    return configuration.parse(content)


def _check_used(content: dict[str, Any], compose: Composer, lines: list[str]) -> None:
    """Refuse settings that the chosen trainer, model or optimizer does not take.

    Raises `ConfigError`.
    """
    names = {kind: _name_of(kind, content) for kind in KINDS}
    unused: dict[str, tuple[str, list[str]]] = {}  # key: who has no such key, what that one has
    if names["trainer"] != SCRATCH:
        own = [f"trainer.{key.name}" for key in parts.keys("trainer", names["trainer"])]
        for key in configuration.scratch_keys():
            unused[key] = f"trainer={names['trainer']}", own
    else:
        for kind in KINDS.values():
            shared = set(kind.shared) - {"lr"}  # which every optimizer gets with each step
            taken = {key.name for key in parts.shared_keys(kind.name, names[kind.name])}
            own = [f"{kind.name}.{key.name}" for key in parts.keys(kind.name, names[kind.name])]
            for key in shared - taken:
                unused[key] = f"{kind.name}={names[kind.name]}", [*own, *sorted(taken)]
    if not unused:
        return
    plain = compose([])
    typed = {line.lstrip("+").partition("=")[0].partition(".")[0] for line in lines}
    changed = [key for key in unused if content.get(key) != plain.get(key)]
    for key in [*(key for key in unused if key in typed and content.get(key)), *changed]:
        who, has = unused[key]
        what = f"it has {', '.join(has)}" if has else "it has no keys"
        raise ConfigError(f"{key}: {who} has no such key; {what}")


def _name_of(kind: str, content: dict[str, Any]) -> str:
    node = content.get(kind, KINDS[kind].before)
    return str(node.get("name") if isinstance(node, dict) else node)


def compose_one(lines: list[str], folder: Path | None = None) -> Config:
    """One configuration; folder: another than `conf/`. Raises `ConfigError`."""
    with composer(folder) as compose:
        return parsed(compose, lines)


def compose_engines(overrides: "dict[str, list[Override]]") -> Engines:
    """The launcher and the sweeper that the overrides choose and set. Raises `ConfigError`.

    They are composed from `conf/hydra` by themselves, so that a published plugin with an option of
    the same name, if one is installed, neither replaces nor disturbs ours.
    """
    return Engines(**{kind: _engine(kind, of_kind) for kind, of_kind in overrides.items()})


def _engine(kind: str, overrides: "list[Override]") -> Any:
    schemas = launcher_schema.SCHEMAS[kind]
    choices = [value_text(each) for each in overrides if each.key_or_group == f"hydra/{kind}"]
    settings = [each for each in overrides if each.key_or_group != f"hydra/{kind}"]
    name = choices[-1] if choices else "basic"
    if name not in schemas:
        options = f"{', '.join(schemas)}{suggest(name, schemas)}"
        raise ConfigError(f"hydra/{kind}={name}: expected {options}")
    for each in settings:
        launcher_schema.check_key(kind, name, each.key_or_group, text_of(each))
    if name == "basic":
        return launcher_schema.parse(kind, {"name": name})
    lines = [text_of(each).lstrip("+") for each in settings]
    # Hydra composes `launcher`; the user reads `hydra.launcher`.
    inner = [f"+{kind}={name}", *(line.removeprefix("hydra.") for line in lines)]
    try:
        with composer(conf_path() / "hydra", None) as compose:
            content = compose(inner)[kind]
    except ConfigError as error:
        why = str(error).partition(": ")[2]
        raise ConfigError(f"{' '.join(lines)}: {why}") from None
    return launcher_schema.parse(kind, content)


@contextmanager
def composer(folder: Path | None = None, root: str | None = ROOT_CONFIG) -> Iterator[Composer]:
    """A function from override lines to the composed dictionary."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    from harness.run import own_source

    def composed(lines: list[str]) -> dict[str, Any]:
        with one_line_errors(" ".join(lines)):
            try:
                config = compose(
                    root, overrides=[*map(_addable, lines), *own], return_hydra_config=True
                )
            except KeyError as error:  # Hydra looks for a variable of hydra.job.env_copy
                raise ConfigError(
                    f"hydra.job.env_copy=[{error.args[0]}] {IN_A_FILE}; {ENVIRONMENT}"
                ) from None
            with open_dict(config):
                hydra = OmegaConf.to_container(config.pop("hydra"))
            if root is not None:
                _check_hydra(hydra)
            try:
                content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            except OmegaConfBaseException as error:
                raise ConfigError(str(error).splitlines()[0]) from None
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}

    own_source.register()
    own = (
        [] if root is None else [f"hydra.searchpath={spell(own_source.search_path(own_folders()))}"]
    )
    with initialize_config_dir(str((folder or conf_path()).resolve()), version_base="1.3"):
        yield composed


def _addable(line: str) -> str:
    """An override that may also add a key: a part completes and checks its own."""
    key = line.partition("=")[0]
    kind = key.partition(".")[0]
    return f"++{line}" if kind in (*KINDS, DATASET.name) and "." in key else line


@cache
def _hydra_defaults() -> dict[str, Any]:
    """Hydra's own settings when no file of ours sets any. Hydra must be initialized."""
    from hydra import compose
    from omegaconf import OmegaConf

    return _leaves(OmegaConf.to_container(compose(return_hydra_config=True).hydra))


def _leaves(content: Any, prefix: str = "hydra") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {prefix: content}
    inner = (_leaves(value, f"{prefix}.{key}") for key, value in content.items())
    return {key: value for leaves in inner for key, value in leaves.items()}


def _check_hydra(hydra: Any) -> None:
    """Refuse settings of Hydra in a configuration file, where they have no effect.

    Raises `ConfigError`.
    """
    for kind in ENGINES:
        name = hydra["runtime"]["choices"][f"hydra/{kind}"]
        if name != "basic":
            raise ConfigError(f"hydra/{kind}={name} {IN_A_FILE}; give it on the command line")
    defaults = _hydra_defaults()
    for key, value in _leaves(hydra).items():
        if value == defaults.get(key) or key.startswith(COMPOSED):
            continue
        if key.startswith(LOGGING) and value in (None, [], {}):
            continue  # logging that is switched off, as older searches froze it
        raise ConfigError(f"{key}={value} {IN_A_FILE}; {instead_of(key) or NO_EFFECT}")


def shell_completion(arguments: list[str]) -> None:
    """Hydra's completion for the console script: `-sc install=bash|zsh|fish`, and its queries.

    Raises `ConfigError`.
    """
    import os
    import sys

    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    from harness.run import own_source

    action, _, shell = arguments[0].partition("=") if len(arguments) == 1 else ("", "", "")
    if action not in ("install", "uninstall", "query") or shell not in SHELLS:
        raise ConfigError(f"-sc {' '.join(arguments)}: expected install={'|'.join(SHELLS)}")
    sys.argv = ["harness-run"]  # the program whose arguments are completed
    folders: list[str] = []
    if action == "query" and LINE in os.environ:
        os.environ[LINE], folders = _completed(os.environ[LINE])
    # Not through `hydra.main`: Python 3.14 refuses its argument parser.
    with initialize_config_dir(str(conf_path().resolve()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        # An unfinished line may be wrong: then nothing is offered.
        with suppress(HydraException, ConfigError, OwnCodeError, PartError), including(folders):
            own_source.extend(hydra.config_loader, own_folders())
            hydra.shell_completion(ROOT_CONFIG, arguments)


def _completed(line: str) -> tuple[str, list[str]]:
    """The command line that is completed without our own options, and its --config-dir folders.

    Keys of parts may be added, as when the line is run; the last word is left as it is.
    """
    folders = [each.group(1) for each in OPTIONS.finditer(line) if each.group(1)]
    words = OPTIONS.sub("", line).split(" ")
    return " ".join([*map(_addable, words[:-1]), words[-1]]), folders
