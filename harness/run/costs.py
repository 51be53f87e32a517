"""Check that the costs in `objective=[METRIC,...]` will be recorded."""

from collections.abc import Sequence

from harness.job.machine import POWERCAP, tells_energy
from harness.runfolder.config import ConfigError
from harness.runfolder.cost import ENERGY, RECORDED, Cost
from harness.runfolder.objective import KEY, PARTS, directed, metric_names
from harness.runfolder.schema import Config, ScratchConfig


def check(costs: Sequence[str], config: Config) -> None:
    """Refuse a cost that the built-in trainer does not record. Raises `ConfigError`.

    What other trainers record is not known in advance.
    """
    if not isinstance(config, ScratchConfig):
        return
    names = [f"{part}/{name}" for part in PARTS for name in metric_names(config.metrics)]
    for cost in costs:
        try:
            Cost.parse(cost).check([*RECORDED, *names])
        except ValueError as error:
            raise ConfigError(f"{typed(costs, config.objective)}: {error}") from None


def check_energy(costs: Sequence[str]) -> None:
    """Refuse energy as a cost if this machine does not report it. Raises `ConfigError`."""
    if ENERGY in [directed(cost)[0] for cost in costs] and not tells_energy():
        raise ConfigError(
            f"{typed(costs)}: {ENERGY}: the energy counters of this machine ({POWERCAP}) are "
            "missing or cannot be read; expected machine/cpu_s or another metric"
        )


def typed(costs: Sequence[str], objective: str = "METRIC") -> str:
    """The override that gave the costs."""
    return f"{KEY}=[{','.join([objective, *costs])}]"
