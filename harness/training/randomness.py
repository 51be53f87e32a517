"""One seed, one independent stream of random numbers per purpose.

Streams are spawned with NumPy's SeedSequence, so drawing more numbers for one purpose cannot change
another, and the global generator is never touched. Their states are part of a checkpoint.
"""

from typing import Any

import numpy as np

PURPOSES = ("weights", "order", "dropout", "augmentation")
Generators = dict[str, np.random.Generator]


def generators(seed: int) -> Generators:
    """The generators of a run by purpose, all derived from one seed."""
    children = np.random.SeedSequence(seed).spawn(len(PURPOSES))
    return {
        purpose: np.random.Generator(np.random.PCG64(child))
        for purpose, child in zip(PURPOSES, children, strict=True)
    }


def states(generators: Generators) -> dict[str, Any]:
    """The states of the generators by purpose, JSON-able."""
    return {purpose: generator.bit_generator.state for purpose, generator in generators.items()}


def restore(generators: Generators, saved: dict[str, Any]) -> None:
    """Set the generators to states that `states` returned."""
    for purpose, state in saved.items():
        generators[purpose].bit_generator.state = state
