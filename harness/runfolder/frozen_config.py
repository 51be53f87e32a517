"""Write and read the frozen `config.yaml` of a run folder, of any schema version."""

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.data.override import spell
from harness.runfolder import versions
from harness.runfolder.config import ConfigError, dotted, to_yaml, validate, yaml_fault
from harness.runfolder.schema import Config


def frozen_yaml(config: Config, schema: int = versions.SCHEMA) -> str:
    """The text of a frozen `config.yaml`: the schema version, then the configuration."""
    return f"{versions.KEY}: {schema}\n{to_yaml(config)}"


def read_schema(path: Path) -> int:
    """The schema version in a frozen `config.yaml` that `read_yaml` accepts."""
    found = re.search(rf"^{versions.KEY}: (\d+)$", path.read_text(), re.MULTILINE)
    return int(found[1]) if found else 1


def read_yaml(path: Path, sha256: str | None = None, *, to_train: bool = False) -> Config:
    """Read the frozen `config.yaml` of a run of any version.

    sha256: the digest of the file's bytes as frozen; None if unknown. to_train: refuse keys that
    this version does not know; otherwise a warning names them. The file can hold keys that
    contradict each other, because an older version accepted them and the run used them. Raises
    `ConfigError` naming the file, also if it was changed.
    """
    import yaml

    text = read_frozen(path, sha256)
    try:
        content = _loaded(text.decode())
        if not isinstance(content, dict):
            raise ConfigError(f"expected settings, found {type(content).__name__}")
        unknown = _unknown(content)
        config = validate(versions.without(content, unknown), frozen=True)
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {yaml_fault(error)}") from error
    if unknown and to_train:
        raise ConfigError(f"{versions.describe(path, unknown)}; train it with the newer one")
    versions.warn(path, unknown)
    return config


def _loaded(text: str) -> Any:
    """Parse YAML, with libyaml if available. Raises the `YAMLError` of the pure Python parser."""
    import yaml

    with suppress(AttributeError, yaml.YAMLError):
        return yaml.load(text, yaml.CSafeLoader)
    return yaml.safe_load(text)


def _unknown(content: dict[Any, Any]) -> tuple[str, ...]:
    """The keys of a frozen configuration that this version does not know.

    If it knows all keys, but the schema is newer, the result is the schema version. Removes that
    version from `content`. Raises `ConfigError`.
    """
    schema = content.pop(versions.KEY, 1)
    if not isinstance(schema, int) or schema < 1:
        raise ConfigError(f"{versions.KEY}={spell(schema)}: expected a whole number of at least 1")
    unknown = versions.unknown(dotted(content))
    is_newer = schema > versions.SCHEMA and not unknown
    return (f"{versions.KEY}={schema}",) if is_newer else unknown


def read_frozen(path: Path, sha256: str | None) -> bytes:
    """Read a frozen `config.yaml` and compare its SHA-256, if known.

    Raises `ConfigError` naming the file.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
        raise ConfigError(
            f"{path}: was changed after the run was frozen; restore it from a copy, or remove the "
            "run folder and start the run again"
        )
    return text
