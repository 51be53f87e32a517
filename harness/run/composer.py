"""`composer`: from override lines to the dictionary that Hydra composes, with its own checks."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.override import in_quotes
from harness.run.conf import conf_path
from harness.run.hydra_errors import one_line_errors
from harness.run.overrides import (
    ENGINES,
    ENVIRONMENT,
    NO_EFFECT,
    SEARCH_PATH,
    instead_of,
    parse_each,
)
from harness.runfolder import own_code
from harness.runfolder.config import ConfigError
from harness.runfolder.kinds import DATASET, KINDS

if TYPE_CHECKING:
    from omegaconf import DictConfig

ROOT_CONFIG = "config"
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
Composer = Callable[[list[str]], dict[str, Any]]


@contextmanager
def composer(
    folder: Path | None = None,
    root: str | None = ROOT_CONFIG,
    own: Sequence[Path] | None = None,
) -> Iterator[Composer]:
    """A function from override lines to the composed dictionary.

    folder: to use instead of `conf/`. own: the user's folders, instead of those of `--config-dir`.
    """
    from hydra import initialize_config_dir

    from harness.run import own_source

    own_source.register()
    added = own_code.folders() if own is None else own
    roots = [(folder or conf_path()).resolve(), *added]
    path = ",".join(map(in_quotes, own_source.search_path(added)))
    folders = [] if root is None else [f"hydra.searchpath=[{path}]"]
    with initialize_config_dir(str(roots[0]), version_base="1.3"):
        yield _Composing(root, roots, folders)


class _Composing:
    """Composes with Hydra, which must be initialized. folders: overrides that add to `roots`."""

    def __init__(self, root: str | None, roots: Sequence[Path], folders: Sequence[str]) -> None:
        self._root, self._roots, self._folders = root, roots, folders
        self._known: dict[tuple[str, ...], DictConfig] = {}

    def __call__(self, lines: list[str]) -> dict[str, Any]:
        """What these override lines give. Raises `ConfigError`."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        with one_line_errors(" ".join(lines)):
            config = self._quickly(lines) or self._searched([*map(addable, lines)])
            try:
                content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            except OmegaConfBaseException as error:
                key = f"{error.full_key}: " if error.full_key else ""
                raise ConfigError(f"{key}{str(error).splitlines()[0]}") from None
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}

    def _searched(self, lines: Sequence[str]) -> "DictConfig":
        """What Hydra finds and merges, without its own node, which is checked."""
        from hydra import compose
        from omegaconf import OmegaConf, open_dict

        typed = [*lines, *self._folders]
        try:
            config = compose(self._root, overrides=typed, return_hydra_config=True)
        except KeyError as error:  # Hydra looks for a variable of hydra.job.env_copy
            raise ConfigError(
                f"hydra.job.env_copy=[{error.args[0]}] {IN_A_FILE}; {ENVIRONMENT}"
            ) from None
        with open_dict(config):
            hydra = OmegaConf.to_container(config.pop("hydra"))
        if self._root is not None:
            _check_hydra(hydra)
        return config

    def _quickly(self, lines: list[str]) -> "DictConfig | None":
        """The same, derived from a configuration composed before; None if that is not certain.

        Composing takes 0.08 s. Jobs of a sweep mostly differ in values such as `seed=1`, which
        Hydra sets last.
        """
        from omegaconf import OmegaConf

        plain = [line for line in lines if _is_plain(line, lines, self._roots)]
        rest = tuple(addable(line) for line in lines if line not in plain)
        with suppress(ConfigError), one_line_errors(""):
            if rest not in self._known:
                self._known[rest] = self._searched(rest)
            config = copy.deepcopy(self._known[rest])
            for override in parse_each(plain):
                key, value = override.key_or_group, override.value()
                if key not in config or OmegaConf.is_dict(config._get_node(key)):
                    return None
                OmegaConf.update(config, key, value, merge=True)  # as Hydra does
            return config
        return None  # composing says what is wrong


def _is_plain(line: str, lines: Sequence[str], roots: Sequence[Path]) -> bool:
    """Whether an override only sets a key of the root that no other override touches."""
    key = line.partition("=")[0]
    others = [each.lstrip("+~").partition("=")[0].partition(".")[0] for each in lines]
    is_group = any((each / key).is_dir() for each in roots)
    return key.isidentifier() and others.count(key) == 1 and not is_group


def addable(line: str) -> str:
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
