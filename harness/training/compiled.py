"""The trainer's interface to the compiled kernels. Numba is imported only when one is needed.

`twins` replaces the parts of a training step by their compiled twins. For small batches of a
perceptron with one hidden layer and plain SGD, one kernel trains the whole epoch (`train_epoch`) if
`unsupported` returns nothing. In both cases `scored` makes a twin of the network for evaluation.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.augmentation import Augmentation
from harness.data.dataset import Part
from harness.data.normalization import Affine, Normalization, is_affine
from harness.nn.compiled import numba_loading, supports
from harness.nn.convolution import Conv2D, Flatten, MaxPool2D, Reshape
from harness.nn.layers import Dense, Layer
from harness.nn.losses import CrossEntropy, Loss
from harness.nn.metrics import Score
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import OPTIMIZERS, SGD, Optimizer
from harness.training.evaluation import Scored
from harness.training.options import Options
from harness.training.step import Parts, Step

MAX_BATCH = 1024  # the largest batch whose sums stay in the cache
CHUNK = 1 << 16  # rows looked up at a time
EVALUATION_BATCH = 250  # small enough for its hidden activations to stay in the cache


def unsupported(
    network: Network,
    part: Part,
    optimizer: Optimizer,
    normalization: Normalization,
    options: Options,
) -> str:
    """What the compiled epoch expects instead of these arguments; empty if it supports them."""
    settings = options.changed() | supports.structure(network)
    if not is_affine(normalization):
        settings["normalization"] = type(normalization).__name__
    settings |= {"inputs": part.inputs.dtype.name, "ink": part.ink_share}
    if type(optimizer) is SGD:
        settings["optimizer"] = "sgd"
        if optimizer.weight_decay:
            settings["weight_decay"] = optimizer.weight_decay
    else:
        settings["optimizer"] = type(optimizer).__name__
    return ", ".join(supports.unsupported(settings).values())


def twins(
    network: Network,
    part: Part,
    optimizer: Optimizer,
    normalization: Normalization,
    options: Options,
) -> Parts:
    """The parts of a training step, with compiled kernels where there are some.

    Their network shares the parameters of `network`, and their optimizer the state of `optimizer`.
    """
    dtype = np.dtype(np.float32) if options.augmentation else part.inputs.dtype
    is_pixel_wise = not options.input_dropout and not options.adversarial
    ink = None
    if options.batch <= MAX_BATCH and is_pixel_wise:
        ink = _ink(network, part, normalization, dtype)
    parts = _parts(network, optimizer, options.loss, ink, options.batch, options.threads)
    if options.adversarial or options.max_norm is not None or options.ema:
        parts = parts._replace(steps=None)
    if type(options.augmentation) is Augmentation:
        threads = options.threads if parts.workers else 1
        parts = parts._replace(augmentation=_deformation(options.augmentation, part, threads))
    else:
        parts = parts._replace(augmentation=options.augmentation)
    takes_blocks = parts.steps is not None
    for layers in [mlp((16,), 2, width=(2, 2))] if takes_blocks else _tiny(parts.network):
        _compile(layers, type(optimizer), ink, dtype if ink else np.dtype(np.float32))
    return parts


def scored(network: Network, part: Part, normalization: Normalization, threads: int) -> Scored:
    """The network for evaluation, with compiled kernels where there are some.

    It shares the parameters of `network`. part: the training part.
    """
    dtype = part.inputs.dtype
    ink = _ink(network, part, normalization, dtype)
    fast, workers = _fast(network, ink, EVALUATION_BATCH, threads)
    for layers in _tiny(fast):  # compile now, not after the first epoch
        tiny, _ = _fast(Network(layers, 16), ink, 2, 1)
        tiny.forward(np.zeros((2, 16), dtype if ink else np.float32))
    unchanged = None if ink else normalization
    return Scored(fast, unchanged, EVALUATION_BATCH, workers if workers.count > 1 else None)


def _ink(
    network: Network, part: Part, normalization: Normalization, dtype: np.dtype[Any]
) -> tuple[float, float] | None:
    """The scale and shift for a first layer on the ink (nonzero inputs); None if unsuitable."""
    is_possible = type(network.layers[0]) is Dense and dtype in (np.uint8, np.float32)
    if is_possible and is_affine(normalization) and part.ink_share < supports.INK_SHARE:
        return normalization.scale, normalization.shift
    return None


def _parts(
    network: Network,
    optimizer: Optimizer,
    loss: Loss,
    ink: tuple[float, float] | None,
    batch: int,
    threads: int,
) -> Parts:
    from harness.nn.compiled import losses, regularization
    from harness.nn.compiled.ink_layer import InkDense
    from harness.nn.compiled.optimizers import Twin, has_twin
    from harness.nn.compiled.steps import Steps, can_take

    fast, workers = _fast(network, ink, batch, threads)
    loss = losses.TWINS.get(type(loss), lambda: loss)()
    if has_twin(optimizer):
        optimizer = Twin(optimizer, fast, workers)
    steps = None
    if workers.can_meet and can_take(fast, loss, optimizer):
        steps = Steps(fast, loss, optimizer, batch, workers)
    return Parts(
        fast,
        optimizer,
        loss,
        regularization.NormLimit,
        regularization.Average,
        takes_pixels=isinstance(fast.layers[0], InkDense),
        workers=workers if workers.count > 1 else None,
        steps=steps,
    )


def _fast(
    network: Network, ink: tuple[float, float] | None, batch: int, threads: int
) -> tuple[Network, Any]:
    """The compiled network and its `Workers`: one thread unless all layers can use several."""
    from harness.nn.compiled.convolution import Conv2D
    from harness.nn.compiled.ink_layer import InkDense
    from harness.nn.compiled.network import compiled
    from harness.nn.compiled.rows import Dense as RowDense
    from harness.nn.compiled.workers import Workers

    workers = Workers(threads)
    fast = compiled(network, ink, batch, workers)
    is_threaded = all(isinstance(each, InkDense | RowDense | Conv2D) for each in fast.trained)
    if threads > 1 and not is_threaded:  # the other layers call BLAS with all threads
        workers = Workers(1)
        fast = compiled(network, ink, batch, workers)
    return fast, workers


def _deformation(augmentation: Augmentation, part: Part, threads: int) -> Any:
    """The compiled twin of an augmentation."""
    from harness.nn.compiled.deformation import Deformation
    from harness.nn.compiled.workers import Workers

    tiny = Deformation(Augmentation((4, 4)), Workers(1))
    pixels = np.zeros((1, 16), part.inputs.dtype)
    tiny(pixels, np.random.default_rng(0), np.empty((1, 16), np.float32))
    return Deformation(augmentation, Workers(threads))


def _tiny(fast: Network) -> Iterator[list[Layer]]:
    """Yield networks for examples of 16 numbers that use all the layer kernels of `fast`."""
    from harness.nn.compiled import convolution, pooling, unpooled

    kinds = {type(layer) for layer in fast.layers}
    yield mlp((16,), 2, width=(2, 2), dropout=0.5)
    # Two of each, because the first layer does not propagate back to its inputs.
    if convolution.Conv2D in kinds:
        first, second = (Conv2D(1, 1), MaxPool2D(2)), (Conv2D(1, 1), MaxPool2D(2))
        yield [Reshape(4, 4, 1), *first, *second, Flatten(), Dense(2)]
    if unpooled.Unpooled in kinds:
        yield [Reshape(4, 4, 1), Conv2D(1, 1), Conv2D(1, 1), Flatten(), Dense(2)]
    if pooling.MaxPool2D in kinds:
        yield [Dense(16), Reshape(4, 4, 1), MaxPool2D(2), Flatten(), Dense(2)]


def _compile(
    layers: list[Layer],
    optimizer: type[Optimizer],
    ink: tuple[float, float] | None,
    dtype: np.dtype[Any],
) -> None:
    """Compile the kernels now, with a step of a tiny network, not during the first epoch."""
    network = Network(layers, 16)
    kind: Any = optimizer if optimizer in OPTIMIZERS.values() else SGD
    parts = _parts(network, kind(network.parameters), CrossEntropy(), ink, 2, 1)
    inputs, outputs = np.zeros((2, 16), dtype), np.empty((2, 2), np.float32)
    targets = np.eye(2, dtype=np.float32)
    if parts.steps is not None:
        parts.steps(inputs, targets, outputs, [0.0])
        return
    options, generator = Options(batch=2, lr=1, epochs=1, max_norm=1), np.random.default_rng(0)
    step = Step(parts, options, batch=2, generator=generator,
                average=parts.average(network.parameters, 0.5))  # fmt: skip
    step(inputs, targets, outputs, 0, 0.0)


def load_epoch() -> None:
    """Load the kernels of the compiled epoch and its evaluation from Numba's cache, in about 60 ms.

    Raises `NotCached` when they are not there.
    """
    images, labels = np.zeros((1, 16), np.uint8), np.zeros(1, np.uint8)
    images.flags.writeable = labels.flags.writeable = False  # like those of a data set
    part = Part(images, labels)
    options = Options(batch=1, lr=1, epochs=1)
    network = Network(mlp((16,), 2, width=(2,)), 16)
    with numba_loading.only_cached():
        train_epoch(network, part, np.zeros(0, np.uint32), np.zeros(0), Affine(), options)
        scored(network, part, Affine(), threads=1)


def load_steps() -> None:
    """Load the kernel that trains a block of steps on the ink of images, like `load_epoch`."""
    with numba_loading.only_cached():
        _compile(mlp((16,), 2, width=(2, 2)), SGD, (1.0, 0.0), np.dtype(np.uint8))


def train_epoch(
    network: Network,
    part: Part,
    order: NDArray[np.uint32],
    lrs: NDArray[np.float64],
    normalization: Normalization,
    options: Options,
) -> Score:
    """Train on the examples of `part` in `order`; changes the network's parameters in place.

    order: (n,) positions within the part, overwritten with rows of the file. lrs: one learning rate
    per step.
    """
    from harness.nn.compiled import epoch

    assert isinstance(normalization, Affine), "the kernel needs a scale and a shift"
    if part.rows is not None:
        for begin in range(0, len(order), CHUNK):  # in place: no second array of this length
            chunk = order[begin : begin + CHUNK]
            chunk[:] = part.rows[chunk]
    totals = epoch.train_epoch(
        network,
        part.inputs,
        part.labels,
        order,
        lrs.astype(np.float32),
        batch=options.batch,
        affine=(normalization.scale, normalization.shift),
        smoothing=options.label_smoothing,
    )
    return Score(totals.loss, totals.wrong, len(order))
