"""The same training in this package, PyTorch and JAX, for `bench_epoch.py`.

Each function here takes a `Setting`, MNIST's training images (N, 784) uint8 or a table of noise
(N, features) float32 from 0 to 255, and labels (N,) uint8, and returns a function that trains one
more epoch and returns its mean loss. The work of an epoch: shuffling, normalization to [-1, 1],
forward, backward and the step of the optimizer. `products` does the matrix products of a network
with convolutions and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

Epoch = Callable[[], float]
CLASSES = 10


@dataclass(frozen=True)
class Setting:
    """What is trained.

    hidden: the widths of the hidden layers. channels: of convolutions before them, each with
    kernels of `kernel` x `kernel`, the activation and max-pooling of 2 x 2. background: whether the
    images have theirs; without, it is noise. features: columns of a table that is trained on, 0 for
    images.
    """

    name: str
    hidden: tuple[int, ...]
    activation: str
    optimizer: str
    lr: float
    batch: int
    dropout: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    max_norm: float | None = None
    ema: float = 0.0
    nesterov: bool = False
    channels: tuple[int, ...] = ()
    background: bool = True
    features: int = 0
    kernel: int = 3


def numpy(setting: Setting, images, labels) -> Epoch:
    """This package without Numba."""
    return ours(setting, images, labels, "numpy")


def numba(setting: Setting, images, labels) -> Epoch:
    """This package with Numba."""
    return ours(setting, images, labels, "numba")


def ours(setting: Setting, images, labels, backend: str) -> Epoch:
    """The trainer of this package."""
    from dataclasses import replace

    import numpy as np
    from threadpoolctl import threadpool_limits

    from harness.data import normalization
    from harness.data.dataset import Dataset, Part
    from harness.nn.activations import ACTIVATIONS
    from harness.nn.models import conv, mlp
    from harness.nn.network import Network
    from harness.nn.optimizers import OPTIMIZERS
    from harness.training.options import Options
    from harness.training.threads import cores, threads_of
    from harness.training.trainer import Trainer

    part, shape = Part(images, labels), (setting.features,) if setting.features else (28, 28)
    options = {
        "width": setting.hidden,
        "activation": ACTIVATIONS[setting.activation](),
        "dropout": setting.dropout,
    }
    if setting.channels:
        layers = conv(shape, CLASSES, channels=setting.channels, kernel=setting.kernel, **options)
    else:
        layers = mlp(shape, CLASSES, **options)
    network = Network.create(layers, images.shape[1], np.random.default_rng(0))
    options = {"weight_decay": setting.weight_decay}
    if setting.optimizer == "momentum":
        options["nesterov"] = setting.nesterov
    optimizer = OPTIMIZERS[setting.optimizer](network.parameters, **options)
    options = Options(
        batch=setting.batch,
        lr=setting.lr,
        epochs=1,
        label_smoothing=setting.label_smoothing,
        max_norm=setting.max_norm,
        ema=setting.ema,
        backend=backend,
    )
    threads = threads_of(network, type(optimizer), options, cores())
    trainer = Trainer(
        network,
        Dataset("mnist", "", shape, CLASSES, part, None, part),
        optimizer,
        normalization.fit("minmax", images),
        replace(options, threads=threads),
    )

    def epoch() -> float:
        with threadpool_limits(threads):
            return trainer.train_epoch()["train/loss"]

    return epoch


def pytorch(setting: Setting, images, labels) -> Epoch:
    """PyTorch in eager mode, with its fused optimizers."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    activation = {
        "sigmoid": torch.nn.Sigmoid, "tanh": torch.nn.Tanh, "relu": torch.nn.ReLU,
        "gelu": lambda: torch.nn.GELU(approximate="tanh"), "silu": torch.nn.SiLU,
    }  # fmt: skip
    layers, below = [], images.shape[1]
    if setting.channels:
        layers, side, inside = [torch.nn.Unflatten(1, (1, 28, 28))], 28, 1
        for channels in setting.channels:
            layers += [torch.nn.Conv2d(inside, channels, setting.kernel)]
            layers += [activation[setting.activation](), torch.nn.MaxPool2d(2)]
            inside, side = channels, (side - setting.kernel + 1) // 2
        layers, below = [*layers, torch.nn.Flatten()], side * side * inside
    for width in setting.hidden:
        layers += [torch.nn.Linear(below, width), activation[setting.activation]()]
        layers += [torch.nn.Dropout(setting.dropout)] if setting.dropout else []
        below = width
    model = torch.nn.Sequential(*layers, torch.nn.Linear(below, CLASSES))
    kinds = {
        "sgd": torch.optim.SGD,
        "momentum": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    options = {"lr": setting.lr, "weight_decay": setting.weight_decay, "fused": True}
    if setting.optimizer == "momentum":
        options |= {"momentum": 0.9, "nesterov": setting.nesterov}
    optimizer = kinds[setting.optimizer](model.parameters(), **options)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=setting.label_smoothing)
    average = None
    if setting.ema:
        average = [each.detach().clone() for each in model.parameters()]
    hidden = [each for each in model[:-1] if isinstance(each, torch.nn.Linear)]
    pixels, truth = torch.from_numpy(np.array(images)), torch.from_numpy(labels.astype(np.int64))

    def epoch() -> float:
        order, total = torch.randperm(len(pixels)), torch.zeros(())
        for begin in range(0, len(pixels), setting.batch):
            rows = order[begin : begin + setting.batch]
            x = pixels[rows].float().mul_(2 / 255).sub_(1)
            loss = loss_of(model(x), truth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                if setting.max_norm:
                    for layer in hidden:
                        layer.weight.renorm_(2, 0, setting.max_norm)
                if average is not None:
                    torch._foreach_lerp_(average, list(model.parameters()), 1 - setting.ema)
            total += loss.detach() * len(rows)
        return float(total) / len(pixels)

    return epoch


def jax(setting: Setting, images, labels) -> Epoch:
    """JAX, one jitted `lax.scan` per epoch; with convolutions, a jitted function per step.

    Within a scan, XLA's convolutions take four times as long. Of several ways to write max-pooling,
    `maximum` of slices has the fastest derivative.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    generator = np.random.default_rng(0)
    weights, below, side, inside = [], images.shape[1], 28, 1
    k = setting.kernel
    for channels in setting.channels:
        limit = np.sqrt(6 / (k**2 * (inside + channels)))
        kernel = generator.uniform(-limit, limit, (k, k, inside, channels))
        weights += [jnp.asarray(kernel, jnp.float32), jnp.zeros(channels, jnp.float32)]
        inside, side = channels, (side - k + 1) // 2
        below = side * side * inside
    widths = (below, *setting.hidden, CLASSES)
    for below, width in pairwise(widths):
        limit = np.sqrt(6 / (below + width))
        weights.append(jnp.asarray(generator.uniform(-limit, limit, (below, width)), jnp.float32))
        weights.append(jnp.zeros(width, jnp.float32))
    zeros = [jnp.zeros_like(each) for each in weights]
    state = [weights, zeros, zeros, weights, jnp.zeros((), jnp.float32)]
    key = [jax.random.key(0)]
    pixels, truth = jnp.asarray(np.array(images)), jnp.asarray(labels)
    steps = len(images) // setting.batch  # a scan needs equal batches: the last one is dropped
    activation = {
        "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu, "gelu": jax.nn.gelu,
        "silu": jax.nn.silu,
    }  # fmt: skip
    function = activation[setting.activation]
    lr, decay, smoothing = setting.lr, setting.weight_decay, setting.label_smoothing

    def convolved(x, w, b):  # type: ignore[no-untyped-def]
        names = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=names)
        x = function(x + b)
        x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
        x = jnp.maximum(x[:, ::2], x[:, 1::2])
        return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])

    def loss_of(weights, x, y, key):  # type: ignore[no-untyped-def]
        if setting.channels:
            x = x.reshape(-1, 28, 28, 1)
            for n in range(0, 2 * len(setting.channels), 2):
                x = convolved(x, *weights[n : n + 2])
            x, weights = x.reshape(len(x), -1), weights[2 * len(setting.channels) :]
        for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            x = function(x @ w + b)
            if setting.dropout:
                key, use = jax.random.split(key)
                kept = 1 - setting.dropout
                x = jnp.where(jax.random.bernoulli(use, kept, x.shape), x / kept, 0)
        scores = jax.nn.log_softmax(x @ weights[-2] + weights[-1])
        hit = jnp.take_along_axis(scores, y[:, None], 1)[:, 0]
        return -((1 - smoothing) * hit + smoothing * scores.mean(1)).mean()

    def updated(w, g, v, s, t):  # type: ignore[no-untyped-def]
        """One parameter array after a step: w and the state of the optimizer."""
        if decay and w.ndim > 1 and setting.optimizer != "adamw":
            g = g + decay * w
        if setting.optimizer == "sgd":
            return w - lr * g, v, s
        if setting.optimizer == "momentum":
            v = 0.9 * v - lr * g
            return w + (0.9 * v - lr * g if setting.nesterov else v), v, s
        if decay and w.ndim > 1:
            w = w * (1 - lr * decay)
        v = 0.9 * v + 0.1 * g
        s = 0.999 * s + 0.001 * g * g
        root = jnp.sqrt(s / (1 - 0.999**t)) + 1e-8
        return w - lr / (1 - 0.9**t) * v / root, v, s

    def step(carried, rows):  # type: ignore[no-untyped-def]
        weights, velocity, square, average, t, key = carried
        t, (key, use) = t + 1, jax.random.split(key)
        x = pixels[rows].astype(jnp.float32) * (2 / 255) - 1
        loss, grad = jax.value_and_grad(loss_of)(weights, x, truth[rows].astype(jnp.int32), use)
        arrays = zip(weights, grad, velocity, square, strict=True)
        new = [updated(w, g, v, s, t) for w, g, v, s in arrays]
        weights, velocity, square = (list(each) for each in zip(*new, strict=True))
        if setting.max_norm:
            for n in range(0, len(weights) - 2, 2):
                norms = jnp.sqrt((weights[n] ** 2).sum(0))
                factor = setting.max_norm / jnp.maximum(norms, setting.max_norm)
                weights[n] = weights[n] * factor
        if setting.ema:
            pairs = zip(average, weights, strict=True)
            average = [a + (1 - setting.ema) * (w - a) for a, w in pairs]
        return (weights, velocity, square, average, t, key), loss

    @jax.jit
    def scan(carried, rows):  # type: ignore[no-untyped-def]
        return jax.lax.scan(step, carried, rows)

    jitted_step = jax.jit(step)

    def epoch() -> float:
        order = jnp.asarray(generator.permutation(len(images)))
        rows = order[: steps * setting.batch].reshape(steps, setting.batch)
        carried = (*state, key[0])
        if setting.channels:
            losses = []
            for number in range(steps):
                carried, loss = jitted_step(carried, rows[number])
                losses.append(loss)
            losses = jnp.stack(losses)
        else:
            carried, losses = scan(carried, rows)
        state[:], key[0] = list(carried[:-1]), carried[-1]
        return float(losses.mean())

    return epoch


def products(setting: Setting, images, labels) -> Epoch:
    """Only the matrix products of this package's NumPy path, of arrays that are unfolded already.

    A layer has three: forward, of the gradient and, except for the first one, backward.
    """
    import numpy as np

    generator, side, inside = np.random.default_rng(0), 28, 1
    shapes, below = [], images.shape[1]
    for channels in setting.channels:
        side -= setting.kernel - 1
        patch = setting.kernel**2 * inside
        shapes.append((setting.batch * side * side, patch, channels))
        inside, side = channels, side // 2
        below = side * side * inside
    for width in (*setting.hidden, CLASSES):
        shapes.append((setting.batch, below, width))
        below = width
    layers = []
    for rows, below, width in shapes:
        x, w, z = (
            generator.normal(size=size).astype(np.float32)
            for size in ((rows, below), (below, width), (rows, width))
        )
        layers.append((x, w, z, *map(np.empty_like, (x, w, z))))

    def epoch() -> float:
        for _ in range(-(-len(images) // setting.batch)):
            for x, w, _, _, _, out in layers:
                np.matmul(x, w, out=out)
            for number, (x, w, z, below, gradient, _) in reversed(list(enumerate(layers))):
                np.matmul(x.T, z, out=gradient)
                if number:
                    np.matmul(z, w.T, out=below)
        return 0.0

    return epoch
