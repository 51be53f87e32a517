"""Check that the arguments of a trainer fit together, before the first step."""

import numpy as np

from harness.data.dataset import Dataset
from harness.nn.network import Network
from harness.nn.optimizers import Optimizer
from harness.nn.parameters import Parameters


def check(network: Network, dataset: Dataset, optimizer: Optimizer) -> None:
    """Raise `ValueError` for parts that do not belong together.

    The network must have as many inputs and outputs as the data. An optimizer that holds
    `Parameters` must hold the network's; otherwise it would train other parameters.
    """
    inputs = dataset.train.inputs.shape[1]
    for what, expected, found in (
        ("inputs", inputs, network.inputs),
        ("outputs", dataset.outputs, network.outputs),
    ):
        if expected != found:
            raise ValueError(
                f"network: expected {expected} {what}, as the data set {dataset.name} needs, found "
                f"{found}"
            )
    attributes = getattr(optimizer, "__dict__", {})  # empty for an object with slots
    held = [each for each in attributes.values() if isinstance(each, Parameters)]
    own = network.parameters.flat
    if held and not any(np.may_share_memory(each.flat, own) for each in held):
        raise ValueError(
            f"optimizer: expected one that is made for this network, such as "
            f"{type(optimizer).__name__}(network.parameters); found one of other parameters, and "
            "the network would not be trained"
        )
