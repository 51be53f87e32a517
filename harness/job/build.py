"""Build the objects that a configuration names. Nothing below this module reads a `Config`."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from harness.data.dataset import Dataset
from harness.data.normalization import Normalization
from harness.job import layer_rehearsal, rehearsal
from harness.nn.compiled import numba_loading
from harness.nn.layers import Layer
from harness.nn.loss_checks import check_kind
from harness.nn.metrics import METRICS, OF_REGRESSION
from harness.nn.network import Network
from harness.nn.optimizers import Optimizer
from harness.nn.schedules import Schedule, with_warmup
from harness.runfolder import own_code, parts
from harness.runfolder.config import ConfigError
from harness.runfolder.kinds import KINDS
from harness.runfolder.objective import Objective
from harness.runfolder.parts import Part, PartError
from harness.runfolder.schema import Backend, ScratchConfig
from harness.training.options import Options, Ties
from harness.training.randomness import generators
from harness.training.trainer import Trainer


def backend(config: ScratchConfig) -> Backend:
    """Decide which backend trains this configuration: "numpy" or "numba".

    Raises `ConfigError` if `backend=numba` asks for Numba and it cannot be used.
    """
    obstacle = numba_loading.obstacle()
    if config.backend == "numba" and obstacle:
        raise ConfigError(f"backend=numba: {obstacle}, or use backend=auto")
    return "numpy" if config.backend == "numpy" or obstacle else "numba"


def slow_backend(config: ScratchConfig) -> str | None:
    """The message if `backend=auto` trains with NumPy because Numba is broken or missing."""
    if config.backend != "auto":
        return None
    if fault := numba_loading.fault():
        return f"warning: backend=auto trains with NumPy: {fault}"
    if not numba_loading.is_installed():
        return (
            f"backend=auto trains with NumPy; {numba_loading.INSTALL} makes it several times faster"
        )
    return None


def trainer(
    config: ScratchConfig, dataset: Dataset, threads: int = 1, ties: Ties = "latest"
) -> Trainer:
    """The trainer of a configuration, with a freshly initialized network.

    threads: the threads of the compiled kernels. ties: see `Options`.
    """
    made = _new(config, dataset)
    fitted: Normalization = part("normalization", config)
    fitted.fit(dataset.train.inputs, dataset.train.rows)
    optimizer = part("optimizer", config, made.parameters)
    _try_network(config, dataset)
    _try_parts(config, dataset, made, fitted, optimizer)
    own = replace(
        options(config),
        augmentation=part("augmentation", config, dataset.input_shape),
        threads=threads,
        ties=ties,
    )
    return Trainer(made, dataset, optimizer, fitted, own)


def _try_network(config: ScratchConfig, dataset: Dataset) -> None:
    """Try the network if its model or activation is the user's. Raises `PartError`."""
    activation = f"activation={config.activation.name}" if config.activation.is_own else None
    model = f"model={config.model.name}"
    if config.model.is_own or activation:
        another = partial(_new, config, dataset)
        layer_rehearsal.check_layers(model if config.model.is_own else str(activation), another)
        layer_rehearsal.check_derivatives(model, activation, another)


def _try_parts(
    config: ScratchConfig,
    dataset: Dataset,
    made: Network,
    fitted: Normalization,
    optimizer: Optimizer,
) -> None:
    """Try the user's other parts. Raises `PartError`."""
    if config.normalization.is_own:
        another = partial(part, "normalization", config)
        name = config.normalization.name
        rehearsal.check_normalization(name, fitted, another, dataset.train)
    if config.optimizer.is_own:
        rehearsal.check_optimizer(config.optimizer.name, optimizer)
        another = partial(part, "optimizer", config)
        rehearsal.check_resume(config.optimizer.name, another, made.parameters, config.lr)
    if config.augmentation.is_own:
        another = partial(part, "augmentation", config, dataset.input_shape)
        rehearsal.check_augmentation(config.augmentation.name, another, dataset.train)
    if config.loss.is_own:
        rehearsal.check_loss(config.loss.name, partial(part, "loss", config), dataset)
    own_metrics = [each for each in config.metrics if ":" in each]
    for name, metric in zip(own_metrics, parts.metrics(own_metrics).values(), strict=True):
        rehearsal.check_metric(name, metric, dataset)


def options(config: ScratchConfig) -> Options:
    """The options of a configuration that do not depend on the data or this machine."""
    objective = Objective.parse(config.objective)
    return Options(
        batch=config.batch,
        lr=config.lr,
        epochs=config.epochs,
        seed=config.seed,
        loss=part("loss", config),
        metrics=parts.metrics(config.metrics),
        schedule=schedule(config),
        input_dropout=config.input_dropout,
        max_norm=config.max_norm,
        label_smoothing=config.label_smoothing,
        adversarial=config.adversarial,
        ema=config.ema,
        objective=objective.metric,
        maximize=objective.is_max,
        weights=config.weights,
        patience=config.patience,
        backend=config.backend,
    )


def _new(config: ScratchConfig, dataset: Dataset, dtype: DTypeLike = np.float32) -> Network:
    """The network with its initial parameters."""
    made = network(config, dataset.input_shape, dataset.outputs, dtype)
    made.initialize(generators(config.seed)["weights"])
    return made


def network(
    config: ScratchConfig,
    input_shape: tuple[int, ...],
    outputs: int,
    dtype: DTypeLike = np.float32,
) -> Network:
    """The network of a configuration, with zero parameters. Raises `PartError`."""
    layers = part("model", config, input_shape, outputs)
    place = f"model={config.model.name}"
    if not isinstance(layers, list | tuple) or not all(isinstance(each, Layer) for each in layers):
        raise PartError(f"{place}: expected it to return a list of layers, found {layers!r}")
    try:
        made = Network(layers, math.prod(input_shape), dtype)
    except (ValueError, TypeError, AttributeError) as error:
        raise PartError(f"{place}: {own_code.described(error)}") from error
    if made.outputs != outputs:
        raise PartError(f"{place}: expected {outputs} outputs, found {made.outputs}")
    return made


def part(kind: str, config: ScratchConfig, *arguments: Any) -> Any:
    """Make the part of a kind that the configuration names, with the arguments of its kind.

    Raises `PartError` if a user's part cannot be made.
    """
    chosen: Part = getattr(config, kind)
    shared = {key.name: getattr(config, key.name) for key in parts.shared_keys(kind, chosen.name)}
    if isinstance(shared.get("activation"), Part):
        shared["activation"] = part("activation", config)
    return make(kind, chosen, shared, *arguments)


def make(kind: str, chosen: Part, shared: Mapping[str, Any], *arguments: Any) -> Any:
    """Make a part with the arguments of its kind and the shared keys that it takes.

    Raises `PartError` if the part cannot be made.
    """
    common = {key.name for key in KINDS[kind].common}
    options = {key: value for key, value in chosen.options.items() if key not in common}
    taken = {key.name for key in parts.shared_keys(kind, chosen.name)}
    options |= {key: value for key, value in shared.items() if key in taken}
    factory = parts.factory(kind, chosen.name)
    if not chosen.is_own:
        try:
            return factory(*arguments, **options)
        except ValueError as error:
            raise PartError(f"{kind}={chosen.name}: {error}") from error
    with rehearsal.named(f"{kind}={chosen.name}"), own_code.staying():
        made = factory(*arguments, **options)
        rehearsal.check_members(kind, chosen.name, made)
    return made


def check_loss(config: ScratchConfig, *, is_regression: bool) -> None:
    """Refuse a loss, smoothing or objective that does not fit the data. Raises `ValueError`."""
    check_kind(
        f"loss={config.loss.name}",
        part("loss", config),
        is_regression=is_regression,
        label_smoothing=config.label_smoothing,
    )
    if is_regression and Objective.parse(config.objective).name == "error":
        raise ConfigError(
            f"objective={config.objective}: a regression has no error; add objective=val/loss, or "
            "a metric of your own"
        )


def check_metrics(config: ScratchConfig, *, is_regression: bool) -> None:
    """Refuse a built-in metric for the other kind of data. Raises `ConfigError`."""
    for name in config.metrics:
        if name in METRICS and (name in OF_REGRESSION) != is_regression:
            of, has = ("labels", "targets") if is_regression else ("targets", "labels")
            fitting = [each for each in METRICS if (each in OF_REGRESSION) == is_regression]
            raise ConfigError(
                f"metrics=[{name}]: it needs {of}, but the data set has {has}; use "
                f"{', '.join(fitting)}, or your own MODULE:FUNCTION"
            )


def check_model(config: ScratchConfig, input_shape: tuple[int, ...]) -> None:
    """Refuse a built-in model that cannot take examples of this shape. Raises `ConfigError`.

    No array is allocated. The activation is left out, because it does not change shapes.
    """
    chosen = config.model
    if chosen.is_own:
        return
    taken = [key.name for key in parts.shared_keys("model", chosen.name)]
    shared = {name: getattr(config, name) for name in taken if name != "activation"}
    shape: tuple[int, ...] = (math.prod(input_shape),)
    try:
        for layer in make("model", chosen, shared, input_shape, 1):
            shape = layer.build(shape)
    except PartError as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        own = ", ".join(f"model.{key.name}" for key in parts.keys("model", chosen.name))
        raise ConfigError(f"model={chosen.name}: {error}; change {own}") from error


def schedule(config: ScratchConfig) -> Schedule:
    """The learning-rate schedule, including warm-up."""
    made = part("schedule", config, config.epochs)
    if config.schedule.is_own:
        another = partial(part, "schedule", config, config.epochs)
        rehearsal.check_schedule(config.schedule.name, another, config.epochs)
    return with_warmup(made, config.schedule.options["warmup"])
