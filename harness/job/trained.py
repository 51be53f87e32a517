"""A trained network from the arrays of a weights file and their description.

`build.description` writes the description. A perceptron is described by sizes and the name of an
activation, as in every earlier version; any other network by its parts.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import normalization
from harness.data.normalization import Normalization
from harness.job import build
from harness.nn.activations import ACTIVATIONS
from harness.nn.losses import LOSSES, Loss
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.runfolder import parts

Arrays = Mapping[str, NDArray[Any]]


def restore(
    arrays: Arrays, description: Mapping[str, Any], *, own: bool = False
) -> tuple[Network, Normalization, Loss]:
    """The network with its weights, the fitted normalization and the loss.

    own: whether parts of the user's may be imported. Raises `ValueError` when the arrays are not
    those of the network.
    """
    if "parts" not in description:
        inputs, *widths, outputs = description["sizes"]
        activation = ACTIVATIONS[description["activation"]]()
        network = Network(mlp((inputs,), outputs, width=widths, activation=activation), inputs)
        fitted = normalization.load(description["normalization"], arrays)
        loss = LOSSES["squared_error" if description.get("classes") == 0 else "cross_entropy"]()
    else:
        network, fitted, loss = _of_parts(arrays, description, own=own)
    for name, array in network.parameters.arrays.items():
        found = arrays.get(name)
        if found is None or found.shape != array.shape or found.dtype != np.float32:
            what = "none" if found is None else f"{found.shape} of {found.dtype}"
            raise ValueError(f"{name}: expected {array.shape} of float32, found {what}")
        if not np.isfinite(found).all():
            raise ValueError(f"{name}: expected finite numbers, found NaN or infinity")
        array[...] = found
    return network, fitted, loss


def _of_parts(
    arrays: Arrays, description: Mapping[str, Any], *, own: bool
) -> tuple[Network, Normalization, Loss]:
    made, shared = {}, dict(description["shared"])
    nodes = {kind: description["parts"][kind] for kind in build.NETWORK_PARTS}
    for kind, node in nodes.items():
        if ":" in str(node["name"]) and not own:
            raise ValueError(f"{kind}={node['name']}: modules of the user's are not imported here")
        made[kind] = parts.check(kind, node)
    shared["activation"] = build.make("activation", made["activation"], shared)
    shape = tuple(description["image_shape"])
    layers = build.make("model", made["model"], shared, shape, description["outputs"])
    network = Network(layers, math.prod(shape))
    named = made["normalization"]
    factories = {named.name: lambda: build.make("normalization", named, shared)}
    fitted = normalization.load(description["normalization"], arrays, factories)
    return network, fitted, build.make("loss", made["loss"], shared)
