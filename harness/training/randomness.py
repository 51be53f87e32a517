"""Derive one independent stream of random numbers per purpose from a single seed.

Streams are spawned with NumPy's SeedSequence, so drawing more numbers for one purpose does not
change another, and NumPy's global generator is never used. Checkpoints include their states.
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
    """The states of the generators by purpose, as JSON-serializable values."""
    return {purpose: generator.bit_generator.state for purpose, generator in generators.items()}


def restore(generators: Generators, saved: dict[str, Any]) -> None:
    """Set the generators to saved `states`."""
    for purpose, state in saved.items():
        generators[purpose].bit_generator.state = state
