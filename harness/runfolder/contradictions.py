"""Find keys of a configuration that are each valid but contradict each other."""

from collections.abc import Iterator
from pathlib import Path

from harness.data.override import spell
from harness.runfolder.objective import DEFAULT, KEY, Objective, check_direction, metric_names
from harness.runfolder.schema import Config, ScratchConfig
from harness.runfolder.target import problem as problem_of
from harness.runfolder.target import shown


def contradictions(config: Config) -> Iterator[str]:
    """Yield a line for each contradiction."""
    if (
        isinstance(config, ScratchConfig)
        and isinstance(config.width, list)
        and config.depth not in (None, 1, len(config.width))
    ):
        yield (
            f"depth={config.depth}: width={spell(config.width)} already gives "
            f"{len(config.width)} hidden layers; leave depth out"
        )
    if config.tracking.uri and (wrong := problem_of(config.tracking.uri, is_kept=True)):
        yield f"tracking.uri={shown(config.tracking.uri)}: {wrong}"
    if config.tracking.name == "server" and not config.tracking.uri:
        yield (
            "tracking.uri=null: tracking=server needs an address; add "
            "tracking.uri=http://HOST:5000 or set MLFLOW_TRACKING_URI"
        )
    if config.tracking.name != "server" and config.tracking.uri:
        is_local = config.tracking.name == "local"
        goal = (
            f"delivers to {Path(config.outputs) / 'mlflow.db'}" if is_local else "delivers nothing"
        )
        yield (
            f"tracking.uri={config.tracking.uri}: tracking={config.tracking.name} {goal} and "
            "ignores it; add tracking=server"
        )
    if config.dataset.name == "idx" and not config.dataset.dir:
        yield "dataset.dir=null: dataset=idx needs dataset.dir=FOLDER with the four files"
    if config.dataset.name == "arrays" and not config.dataset.file:
        yield "dataset.file=null: dataset=arrays needs dataset.file=FILE.npz"
    if config.dataset.file and config.dataset.name != "arrays":
        yield (
            f"dataset.file={config.dataset.file}: dataset={config.dataset.name} reads no such "
            "file; add dataset=arrays"
        )
    if config.dataset.dir and config.dataset.name == "arrays":
        yield (
            f"dataset.dir={config.dataset.dir}: dataset=arrays reads one file; give it as "
            "dataset.file=FILE.npz"
        )
    try:
        objective = Objective.parse(config.objective)
        check_direction(config.objective, option=f"{KEY}=")
        if isinstance(config, ScratchConfig):  # other trainers' metrics are unknown here
            names = metric_names(config.metrics)
            objective.check(is_validated=config.dataset.num_val > 0, names=names)
    except ValueError as error:
        yield str(error)
        return
    if config.patience is not None and config.dataset.num_val == 0 and objective == DEFAULT:
        yield (
            f"patience={config.patience}: stopping early needs validation examples; set "
            "dataset.num_val above 0 or leave patience out"
        )
