"""The launcher and the sweeper of a command, composed from `conf/hydra`."""

from typing import TYPE_CHECKING, Any

from harness.data.override import suggest
from harness.run import launcher_schema
from harness.run.composer import composer
from harness.run.conf import conf_path
from harness.run.launcher_schema import Engines
from harness.run.overrides import text_of, value_text
from harness.runfolder.config import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


def compose_engines(overrides: "dict[str, list[Override]]") -> Engines:
    """The launcher and the sweeper that the overrides choose and set. Raises `ConfigError`.

    They are composed separately from `conf/hydra`, so an installed Hydra plugin with an option of
    the same name does not interfere.
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
    # Hydra composes `launcher`; the user types `hydra.launcher`.
    inner = [f"+{kind}={name}", *(line.removeprefix("hydra.") for line in lines)]
    try:
        with composer(conf_path() / "hydra", None) as compose:
            content = compose(inner)[kind]
    except ConfigError as error:
        why = str(error).partition(": ")[2]
        raise ConfigError(f"{' '.join(lines)}: {why}") from None
    return launcher_schema.parse(kind, content)
