"""What `python -m harness.run --help` prints."""

from typing import TYPE_CHECKING

from harness.data.override import spell
from harness.run import compose, launcher_schema, overrides
from harness.run.conf import groups
from harness.runfolder import config as configuration
from harness.runfolder.kinds import DATASET, KINDS
from harness.runfolder.meanings import meanings
from harness.runfolder.parts import Part, keys

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

EXAMPLES = """\
  python -m harness.run                                        one run with the defaults
  python -m harness.run width=512 lr=0.1 normalization=unit    one run, some settings changed
  python -m harness.run -m batch=16,64,128 'seed=range(3)'     a sweep: every combination"""


def help_text(settings: "list[Override]") -> str:
    """Every key with its meaning and default, the groups and three examples.

    settings: the overrides given with --help. The keys of the parts that they choose are included;
    keys that the chosen trainer, model or optimizer does not take are left out.
    """
    chosen = compose.expand(settings, sweep=False)[0].config
    defaults = configuration.leaves(compose.compose_one([])) | configuration.leaves(chosen)
    unused = compose.unused_keys({kind: part.name for kind, part in chosen.parts.items()})
    data = Part(chosen.dataset.name, chosen.dataset.options)
    texts = {
        key: text
        for key, text in meanings([*chosen.parts.items(), (DATASET.name, data)]).items()
        if key.partition(".")[0] not in unused
    }
    width = max(len(key) for key in texts)
    lines = ["python -m harness.run [-m] [KEY=VALUE ...]", ""]
    lines += ["Train a network. With -m, values separated by commas are a sweep.", "", "Groups:"]
    lines += [f"  {group:<14} {', '.join(options)}" for group, options in groups().items()
              if group not in unused]  # fmt: skip
    lines += ["", "Keys, meaning [default]:"]
    for key, meaning in texts.items():
        default = defaults[key] if key in defaults else _of_other_parts(key)
        lines.append(f"  {key:<{width}}  {meaning} [{'null' if default is None else default}]")
    for key, meaning in overrides.COMMAND_KEYS.items():
        lines.append(f"  {key:<{width}}  {meaning}")
    for kind, schemas in launcher_schema.SCHEMAS.items():
        lines += ["", f"hydra/{kind}: {', '.join(schemas)}"]
        for name in schemas:
            for key, meaning in launcher_schema.keys(kind, name).items():
                lines.append(f"  {name + ':':<15} {key:<33} {meaning}")
    lines += ["", "Examples:", EXAMPLES, "", "Options:"]
    lines += [
        "  -m, --multirun         a sweep over all values given with commas, range() or choice()",
        "  -cd, --config-dir DIR  your own groups and modules beside the built-in ones",
        "  --ids FILE             write the ids of the runs and of the sweep to FILE as JSON",
        "  --dry-run              list the jobs, which are done, and an estimate; create nothing",
        "  --cfg job              print the composed configuration and do nothing",
        '  -sc install=SHELL      shell completion: eval "$(harness-run -sc install=bash)"',
    ]
    return "\n".join(lines)


def _of_other_parts(dotted: str) -> str:
    """The defaults of a key that no chosen part has, each with the built-in parts that have it."""
    kind, _, name = dotted.partition(".")
    parts: dict[str, list[str]] = {}  # by the default
    for part in KINDS[kind].rows:
        for key in keys(kind, part):
            if key.name == name:
                parts.setdefault(spell(key.default), []).append(part)
    return ", ".join(f"{default} with {' or '.join(each)}" for default, each in parts.items())
