"""One seed, one independent stream of random numbers per purpose.

Streams are spawned with NumPy's SeedSequence, so drawing more numbers for one purpose cannot change
another, and the global generator is never touched. Their states are part of a checkpoint.
"""

from typing import Any

import numpy as np

PURPOSES = ("weights", "order", "dropout", "augmentation")
Generators = dict[str, np.random.Generator]


def generators(seed: int) -> Generators:
    """The generators of a run by purpose."""
    children = np.random.SeedSequence(seed).spawn(len(PURPOSES))
    return {
        purpose: np.random.Generator(np.random.PCG64(child))
        for purpose, child in zip(PURPOSES, children, strict=True)
    }


def states(these: Generators) -> dict[str, Any]:
    """Their states, JSON-able."""
    return {purpose: generator.bit_generator.state for purpose, generator in these.items()}


def restore(these: Generators, saved: dict[str, Any]) -> None:
    """Put saved states back."""
    for purpose, state in saved.items():
        these[purpose].bit_generator.state = state
