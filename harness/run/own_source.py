"""Let Hydra find the user's own files, in the folders of `--config-dir`, and parts.

They are two kinds of places on Hydra's search path, each a class registered with Hydra.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from harness.runfolder import parts
from harness.runfolder.kinds import DATASET, KINDS
from harness.runfolder.own_dataset import check_keys

EXPERIMENT = "experiment"
# What conf/dataset/arrays.yaml has, for data that a function of the user's makes.
OWN_DATASET = {
    "dir": None, "file": None, "label": None, "num_val": 0.15, "num_train": None, "split_seed": 0,
}  # fmt: skip


class OwnFolder(FileConfigSource):
    """A user's folder. An experiment file needs no `# @package _global_`.

    loaded: the files of all such folders that this process has read.
    """

    loaded: ClassVar[set[Path]] = set()

    @staticmethod
    def scheme() -> str:
        """The scheme of its address on the search path."""
        return "own"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file."""
        result = super().load_config(config_path)
        self.loaded.add(Path(self.path, self._normalize_file_name(config_path)))
        if config_path.startswith(f"{EXPERIMENT}/") and result.header["package"] is None:
            result.header["package"] = "_global_"
        return result


class OwnParts(ConfigSource):
    """The parts that are imported: `optimizer=mine.parts:Lion` is the file of such a name."""

    @staticmethod
    def scheme() -> str:
        """The scheme of its address on the search path."""
        return "parts"

    def load_config(self, config_path: str) -> ConfigResult:
        """The node of a part: its name, and its keys with their defaults.

        The defaults of the shared keys that it takes, such as `lr`, become those of the root.
        """
        kind, _, name = config_path.removesuffix(".yaml").partition("/")
        if kind == DATASET.name:
            check_keys(name)
        node: dict[str, Any] = {"name": name}
        node |= {key.name: key.default for key in parts.keys(kind, name)}
        if kind == DATASET.name:
            node = OWN_DATASET | node
        shared = {key.name: key.default for key in parts.shared_keys(kind, name)}
        # A part among them, such as `activation`, is chosen by its own group.
        content = {key: value for key, value in shared.items() if key not in KINDS}
        content = {key: value for key, value in content.items() if value is not None}
        content[kind] = node
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://",
            config=OmegaConf.create(content),
            header={"package": "_global_"},
        )

    def available(self) -> bool:
        """Always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether there may be parts of this kind."""
        return config_path in (*KINDS, DATASET.name, "")

    def is_config(self, config_path: str) -> bool:
        """Whether it names a part."""
        kind, _, name = config_path.partition("/")
        return kind in (*KINDS, DATASET.name) and ":" in name

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing: modules are not searched for parts."""
        return []


@cache
def register() -> None:
    """Register both with Hydra."""
    for source in (OwnFolder, OwnParts):
        Plugins.instance().register(source)


def extend(loader: Any, folders: Sequence[Path]) -> None:
    """Let a Hydra configuration loader find and list the user's own options."""
    register()
    for address in search_path(folders):
        before = SearchPathQuery("schema", None)  # which must stay the last one
        loader.config_search_path.prepend("own", address, before)
    loader.repository = ConfigRepository(loader.config_search_path)


def search_path(folders: Sequence[Path]) -> list[str]:
    """The addresses of the user's folders and of parts, for `hydra.searchpath`."""
    return [*(f"{OwnFolder.scheme()}://{folder}" for folder in folders), f"{OwnParts.scheme()}://"]
