"""What a trainer is given must fit together: checked before the first step."""

import numpy as np

from harness.data.dataset import Dataset
from harness.nn.network import Network
from harness.nn.optimizers import Optimizer
from harness.nn.parameters import Parameters


def check(network: Network, dataset: Dataset, optimizer: Optimizer) -> None:
    """Raise `ValueError` for parts that do not belong together.

    The network must have the inputs and the outputs of the data, and the optimizer must be made
    for the network's parameters, as far as it holds `Parameters`: else it would change others.
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
    attributes = getattr(optimizer, "__dict__", {})  # none of one that has slots
    held = [each for each in attributes.values() if isinstance(each, Parameters)]
    own = network.parameters.flat
    if held and not any(np.may_share_memory(each.flat, own) for each in held):
        raise ValueError(
            f"optimizer: expected one that is made for this network, such as "
            f"{type(optimizer).__name__}(network.parameters); found one of other parameters, and "
            "the network would not be trained"
        )
