"""Describe a trained network in its weights file, and restore the network from the file.

A perceptron is described by sizes and the name of an activation, as in every earlier version; any
other network by its parts.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import normalization
from harness.data.dataset import default_names
from harness.data.normalization import Normalization, is_affine, recorded_range
from harness.job import build
from harness.nn.activations import ACTIVATIONS
from harness.nn.convolution import Conv2D, MaxPool2D
from harness.nn.layers import Layer
from harness.nn.losses import LOSSES, Loss
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.parameters import Shape
from harness.runfolder import own_code, parts
from harness.runfolder.parts import Part
from harness.runfolder.schema import ScratchConfig
from harness.training.trainer import Trainer

# Keys of a description: the digest of each user file that the network needs, and the range of the
# training data, see `recorded_range`.
CODE, RANGE = "code", "range"
NETWORK_PARTS = ("model", "activation", "loss", "normalization")  # the parts in a description
MOST_NUMBERS = 1 << 26  # the most that an example may need: 256 MB
VIEW = 64  # numbers that take the memory of a view of an array
Arrays = Mapping[str, NDArray[Any]]


def description(config: ScratchConfig, trained: Trainer) -> dict[str, Any]:
    """The JSON description in a weights file: what is needed to use the network."""
    normal, dataset = trained.normalization, trained.dataset
    dtype = dataset.train.inputs.dtype
    about: dict[str, Any] = {}
    if _is_plain(config):  # as in earlier versions, to the byte
        about["sizes"] = [math.prod(dataset.input_shape), *config.hidden, dataset.outputs]
        about["activation"] = config.activation.name
    else:
        about["parts"] = {
            kind: {"name": getattr(config, kind).name, **getattr(config, kind).options}
            for kind in NETWORK_PARTS
        }
        about["shared"] = {key: getattr(config, key) for key in ("width", "depth", "dropout")}
        about["outputs"] = dataset.outputs
    about["normalization"] = {"name": config.normalization.name}
    if is_affine(normal):
        about["normalization"] |= {"scale": normal.scale, "shift": normal.shift}
    about |= {
        "image_shape": list(dataset.input_shape),
        "classes": dataset.classes,
        "dataset": dataset.name,
    }
    if dataset.class_names != default_names(dataset.classes):
        about["class_names"] = list(dataset.class_names)
    train = dataset.train
    if known := recorded_range(dataset.input_shape, train.inputs, train.rows):
        about[RANGE] = list(known)
    return about if dtype == np.uint8 else about | {"dtype": dtype.name}


def code(config: ScratchConfig) -> dict[str, str]:
    """Path -> digest of each source file that the user's parts of the network need.

    Raises `OwnCodeError`.
    """
    chosen: list[Part] = [getattr(config, kind) for kind in NETWORK_PARTS]
    files = own_code.sources(part.name for part in chosen if part.is_own)
    return {each.path: each.syntax for each in files}


def _is_plain(config: ScratchConfig) -> bool:
    """Whether sizes and the name of an activation describe the network."""
    return (
        config.model.name == "mlp"
        and not (config.activation.is_own or config.activation.options)
        and config.loss.name in ("cross_entropy", "squared_error")
        and not config.normalization.is_own
    )


def restore(
    arrays: Arrays, description: Mapping[str, Any], *, own: bool = False
) -> tuple[Network, Normalization, Loss]:
    """The network with its weights, the fitted normalization and the loss.

    own: whether the user's parts may be imported. Raises `ValueError` if the arrays do not fit the
    network.
    """
    if "parts" not in description:
        inputs, *widths, outputs = description["sizes"]
        activation = ACTIVATIONS[description["activation"]]()
        network = Network(mlp((inputs,), outputs, width=widths, activation=activation), inputs)
        fitted = normalization.load(description["normalization"], arrays)
        loss = LOSSES["squared_error" if description.get("classes") == 0 else "cross_entropy"]()
    else:
        network, fitted, loss = _of_parts(arrays, description, own=own)
    _check_arrays(arrays, network.parameters.shapes)
    for name, array in network.parameters.arrays.items():
        array[...] = arrays[name]
    return network, fitted, loss


def _check_arrays(arrays: Arrays, shapes: Mapping[str, Shape]) -> None:
    """Raise `ValueError` for the first array with another shape or type, or not all finite."""
    for name, shape in shapes.items():
        found = arrays.get(name)
        if found is None or found.shape != shape or found.dtype != np.float32:
            what = "none" if found is None else f"{found.shape} of {found.dtype}"
            raise ValueError(f"{name}: expected {shape} of float32, found {what}")
        if not np.isfinite(found).all():
            raise ValueError(f"{name}: expected finite numbers, found NaN or infinity")


def _shared(value: Any, count: int) -> dict[str, Any]:
    """The shared keys of a model. count: number of arrays, two for each layer with parameters.

    Raises `ValueError`.
    """
    keys = dict(value) if isinstance(value, Mapping) else {}
    widths = keys.get("width")
    widths = widths if isinstance(widths, list) else [widths]
    depth, dropout = keys.get("depth"), keys.get("dropout")
    if (
        not all(width is None or (type(width) is int and width > 0) for width in widths)
        or not (depth is None or (type(depth) is int and 0 < depth <= count))
        or not (isinstance(dropout, int | float) and 0 <= dropout < 1)
    ):
        text = repr(value)
        raise ValueError(
            f"shared: expected width, depth and dropout of a network of {count} arrays, found "
            f"{text if len(text) <= 80 else f'{text[:80]}...'}"
        )
    return {key: keys[key] for key in ("width", "depth", "dropout") if key in keys}


def _shapes(layers: Sequence[Layer], inputs: int) -> dict[str, Shape]:
    """The shapes of the parameters of new built-in layers, as `Network` names them.

    Allocates no arrays. Raises `ValueError` if an example would need too much memory.
    """
    shape: Shape = (inputs,)
    numbers = inputs
    for layer in layers:
        shape = layer.build(shape)
        numbers += math.prod(shape)
        if isinstance(layer, Conv2D):  # the patch under each position
            numbers += math.prod(shape[:2]) * layer.shapes["weights"][0]
        if isinstance(layer, MaxPool2D):  # a view of each pixel of a window
            numbers += VIEW * layer.size**2
    if numbers > MOST_NUMBERS:
        raise ValueError(
            f"model: expected a network that computes at most {MOST_NUMBERS:,} numbers for an "
            f"example, found {numbers:,}"
        )
    trained = [layer for layer in layers if layer.shapes]
    return {
        f"layer{number}.{name}": shape
        for number, layer in enumerate(trained, 1)
        for name, shape in layer.shapes.items()
    }


def _of_parts(
    arrays: Arrays, description: Mapping[str, Any], *, own: bool
) -> tuple[Network, Normalization, Loss]:
    made, shared = {}, _shared(description["shared"], len(arrays))
    nodes = {kind: description["parts"][kind] for kind in NETWORK_PARTS}
    for kind, node in nodes.items():
        if ":" in str(node["name"]) and not own:
            raise ValueError(f"{kind}={node['name']}: modules of the user's are not imported here")
        made[kind] = parts.check(kind, node)
    shared["activation"] = build.make("activation", made["activation"], shared)
    shape = tuple(description["image_shape"])
    model = partial(build.make, "model", made["model"], shared, shape, description["outputs"])
    if not made["model"].is_own:
        _check_arrays(arrays, _shapes(model(), math.prod(shape)))
    network = Network(model(), math.prod(shape))
    named = made["normalization"]
    factories = {named.name: lambda: build.make("normalization", named, shared)}
    fitted = normalization.load(description["normalization"], arrays, factories)
    return network, fitted, build.make("loss", made["loss"], shared)
