"""Try the user's parts once before they train, to report what is wrong and where.

The layers of a network are tried in layer_rehearsal.py. In addition, `nn` tries all layers,
activations and losses, even built-in ones. All functions raise `PartError`, one line.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import normalization
from harness.data.dataset import Dataset, Part
from harness.job import repeated
from harness.nn import loss_checks
from harness.nn.initialization import check_initialization
from harness.nn.parameters import Parameters
from harness.runfolder import own_code
from harness.runfolder.kinds import KINDS
from harness.runfolder.optional import warn
from harness.runfolder.parts import PartError

FEW = 4  # examples
STEPS = 8  # of an optimizer, before and after resuming: some do more in every fifth
GRADIENTS = 4  # these steps use them in turn
SOME = 64  # examples
TIMES = 100  # at which a schedule is called
ROUNDED = 1e-9  # rounding can make a factor of 0 this negative
Make = Callable[[Parameters], Any]


@contextmanager
def named(place: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one line that begins with `place`."""
    try:
        yield
    except (PartError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PartError(f"{place}: {own_code.described(error)}") from error


def check_members(kind: str, name: str, made: Any) -> None:
    """Check that a part has the members of its kind."""
    members = KINDS[kind].members
    # Do not call properties: the state of a normalization can need `fit` first.
    missing = [each for each in members if not _has(made, each)]
    if not missing:
        if kind == "activation":
            with named(f"activation={name}"):
                check_initialization(type(made).__name__, made.initialization)
        return
    if members == ("__call__",):
        raise PartError(f"{kind}={name}: expected it to return a function, found {made!r}")
    raise PartError(
        f"{kind}={name}: expected an object with {', '.join(members)}; "
        f"{type(made).__name__} has no {', '.join(missing)}"
    )


def _has(made: Any, member: str) -> bool:
    try:
        inspect.getattr_static(made, member)
    except AttributeError:
        return hasattr(made, member)
    return True


def check_schedule(name: str, make: Callable[[], Any], epochs: int) -> None:
    """Check a schedule's factors of the learning rate, and that they depend only on the time.

    A negative factor is a warning; a later factor that is not finite fails in its epoch.
    """
    place = f"schedule={name}"
    schedule, times = make(), np.linspace(0, epochs, TIMES, endpoint=False).tolist()
    with named(place):
        factors = list(map(make(), times))
    for time, factor in zip(times, factors, strict=True):
        is_number = not isinstance(factor, str) and np.isscalar(factor)
        if not is_number or not (time or np.isfinite(factor)):
            raise PartError(f"{place}: expected a finite number at time {time:g}, found {factor!r}")
        if factor < -ROUNDED:
            warn(
                place,
                f"its factor is {factor:g} at time {time:g}, so those steps increase the loss",
            )
            break
    with named(place):
        repeated.check(
            place,
            schedule,
            make(),
            lambda part, generator: [part(epochs * generator.random()) for _ in range(2)],
        )


def check_loss(name: str, make: Callable[[], Any], dataset: Dataset) -> None:
    """Check the results of a loss, and that they depend only on its arguments.

    A gradient that contradicts the value is only a warning, because it can be intended.
    """
    place, outputs = f"loss={name}", dataset.outputs
    loss_checks.check(make(), outputs)

    def call(loss: Any, generator: np.random.Generator) -> list[Any]:
        z, t = _outputs_and_targets(dataset, generator)
        copies = {"outputs": (z, z.copy()), "targets": (t, t.copy())}
        results = [np.array(loss.value(z, t))]
        repeated.check_kept(f"{place}: value(outputs, targets)", **copies)
        for method, arguments in (("gradient", (z, t)), ("predict", (z,))):
            out = np.zeros_like(z)
            getattr(loss, method)(*arguments, out)
            names = ", ".join([*list(copies)[: len(arguments)], "out"])
            repeated.check_kept(f"{place}: {method}({names})", **copies)
            results.append(out)
        loss_checks.check_predictions(loss, results[-1])
        return results

    with named(place), np.errstate(all="ignore"):
        repeated.check(place, make(), make(), call)
        z, t = _outputs_and_targets(dataset, np.random.default_rng(3))
        for dtype in (np.float64, np.float32):
            try:
                fault = loss_checks.gradient_fault(make(), z.astype(dtype), t.astype(dtype))
            except Exception:  # any kind: it may take only float32
                continue
            if fault:
                warn(place, fault)
            break


def _outputs_and_targets(
    dataset: Dataset, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random network outputs (FEW, C) and the targets of some training examples."""
    truth = _some(dataset.train, generator, FEW)[1]
    z = generator.normal(size=(len(truth), dataset.outputs)).astype(np.float32)
    if not dataset.classes:
        return z + truth, truth.copy()
    return z, np.eye(dataset.classes, dtype=np.float32)[truth]


def _some(
    part: Part, generator: np.random.Generator, count: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The inputs (n, D) and labels of `count` examples of a part, drawn at random."""
    rows = generator.integers(0, len(part), count)
    chosen = rows if part.rows is None else part.rows[rows]
    return np.array(part.inputs[chosen]), np.array(part.labels[chosen])


def check_metric(name: str, metric: Callable[..., Any], dataset: Dataset) -> None:
    """Check that a metric depends only on its arguments and does not change them.

    A metric that cannot be computed for so few examples is not checked.
    """
    place = f"metrics=[{name}]"

    def call(function: Any, generator: np.random.Generator) -> list[Any]:
        _, truth = _some(dataset.train, generator, SOME)
        predictions = generator.permutation(truth)
        if dataset.classes:
            predictions = generator.dirichlet(np.ones(dataset.classes), SOME).astype(np.float32)
        copies = {
            "probabilities": (predictions, predictions.copy()),
            "labels": (truth, truth.copy()),
        }
        value = float(function(predictions, truth))
        repeated.check_kept(f"{place}: f(probabilities, labels)", **copies)
        return [value]

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            repeated.check(place, metric, metric, call)
        except PartError:
            raise
        except Exception:  # any kind: if it is wrong, it fails in training
            return


def check_optimizer(name: str, optimizer: Any) -> None:
    """Check that the state consists of arrays, and that they are not copies."""
    place = f"optimizer={name}"
    with named(place):
        states = optimizer.state, optimizer.state
    for state in states:
        _check_arrays(place, state)
    for key, array in states[0].items():
        if array.size and not np.shares_memory(array, states[1][key]):
            raise PartError(f"{place}: expected state[{key!r}] to be the array itself, not a copy")


class _Drawn:
    """A gradient of random numbers (P,)."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def into(self, out: NDArray[Any], factor: float = 1.0) -> NDArray[Any]:
        """Write `factor` times the gradient into `out`."""
        np.multiply(self._values, factor, out=out)
        return out


def check_resume(name: str, make: Make, parameters: Parameters, lr: float) -> None:
    """Check that steps are finite, and the same after restoring the state into a new optimizer.

    make: makes the optimizer of some parameters. It gets copies; `parameters` do not change.
    """
    place = f"optimizer={name}"
    generator = np.random.default_rng(0)
    flat = parameters.flat
    gradients = [
        _Drawn(generator.normal(size=len(flat)).astype(flat.dtype)) for _ in range(GRADIENTS)
    ]
    ours = [Parameters(parameters.shapes, flat.copy()) for _ in range(2)]
    with np.errstate(all="ignore"):
        first, again = map(make, ours)
        beginning = _forms(place, first)
        with named(place):
            for number in range(STEPS):
                first.step(gradients[number % GRADIENTS], lr)
        changed = sorted({key for key, _ in beginning.items() ^ _forms(place, first).items()})
        if changed:
            raise PartError(
                f"{place}: expected the same arrays in state from the beginning, each of one "
                f"shape and type; {', '.join(changed)} changed after the first steps; create it in "
                "__init__"
            )
        with named(place):
            ours[1].flat[:] = ours[0].flat
            for key, array in again.state.items():
                array[...] = first.state[key]
            for number in range(STEPS):
                for each in (first, again):
                    each.step(gradients[-1 - number % GRADIENTS], lr)
    if not np.isfinite(ours[0].flat).all():
        found = ours[0].flat[~np.isfinite(ours[0].flat)][0]
        raise PartError(
            f"{place}: expected finite parameters after its first steps with lr={lr:g}, found "
            f"{found}"
        )
    if ours[0].flat.tobytes() != ours[1].flat.tobytes():
        raise PartError(
            f"{place}: a resumed run would differ: a new optimizer with the restored state takes "
            "different steps; put all that step changes into state, a counter as "
            "np.zeros(())"
        )


def _forms(place: str, optimizer: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and type of each array of the state."""
    with named(place):
        state = optimizer.state
    _check_arrays(place, state)
    return {key: (array.shape, array.dtype.str) for key, array in state.items()}


def check_normalization(name: str, fitted: Any, make: Callable[[], Any], part: Part) -> None:
    """Check a fitted normalization: its state, its results on `part`, and those after restoring.

    make: makes a new one, into which the state is restored as from a weights file.
    """
    place = f"normalization={name}"
    with named(place):
        state = {key: np.asarray(array) for key, array in fitted.state.items()}
    _check_arrays(place, state)
    is_affine = normalization.is_affine(fitted)
    about: dict[str, Any] = {"name": name}
    if is_affine:
        about |= {"scale": fitted.scale, "shift": fitted.shift}
    saved = {key: array.copy() for key, array in normalization.state_arrays(fitted).items()}

    def call(applied: Any, generator: np.random.Generator) -> list[Any]:
        inputs, _ = _some(part, generator, SOME)
        copy, out = inputs.copy(), np.full(inputs.shape, np.nan, np.float32)
        applied.apply(inputs, out)
        _check_written(f"{place}: apply(inputs, out)", out)
        repeated.check_kept(f"{place}: apply(inputs, out)", inputs=(inputs, copy))
        return [out]

    with named(place):
        call(fitted, np.random.default_rng(0))
        repeated.check(place, fitted, fitted, call)
        examples = _some(part, np.random.default_rng(0), SOME)[0]
        together, alone = (
            np.empty(examples.shape, np.float32),
            np.empty((1, examples.shape[1]), "f"),
        )
        fitted.apply(examples.copy(), together)
        fitted.apply(examples[:1].copy(), alone)
        if not repeated.is_close(together[:1], alone):
            warn(
                place,
                "apply(inputs, out): its output for an example depends on the rest of the batch, "
                "so errors and predictions do too",
            )
        restored = normalization.load(about, saved, {name: make})
        results = [call(each, np.random.default_rng(1)) for each in (fitted, restored)]
        again = {key: np.asarray(array) for key, array in restored.state.items()}
    if not all(map(repeated.is_close, *results)) or (not is_affine and _differ(state, again)):
        raise PartError(
            f"{place}: a new object with the restored state gives different results, and so would "
            "the saved weights: state must return all that fit finds, and restore take it"
        )


def _differ(ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]) -> bool:
    """Whether two states have different arrays."""
    return ours.keys() != theirs.keys() or any(
        not repeated.is_close(array, theirs[key]) for key, array in ours.items()
    )


def check_augmentation(name: str, make: Callable[[], Any], part: Part) -> None:
    """Check the results of an augmentation, and that they depend only on its arguments."""
    place = f"augmentation={name}"

    def call(augmentation: Any, generator: np.random.Generator) -> list[Any]:
        pixels, _ = _some(part, generator, FEW)
        copy, out = pixels.copy(), np.full(pixels.shape, np.nan, np.float32)
        augmentation(pixels, np.random.default_rng(0), out)
        _check_written(f"{place}: f(pixels, generator, out)", out)
        repeated.check_kept(f"{place}: f(pixels, generator, out)", pixels=(pixels, copy))
        return [out]

    with named(place):
        repeated.check(place, make(), make(), call)


def _check_arrays(place: str, state: Any) -> None:
    if not isinstance(state, Mapping):
        raise PartError(f"{place}: expected state to be arrays by name, found {state!r}")
    for key, array in state.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            what = f"{array.dtype}" if isinstance(array, np.ndarray) else repr(array)
            raise PartError(f"{place}: expected state[{key!r}] to be an array, found {what}")


def _check_written(place: str, out: NDArray[np.float32]) -> None:
    if not np.isfinite(out).all():
        raise PartError(
            f"{place}: expected it to write finite numbers to `out`, found "
            f"{np.array2string(out.ravel()[:3], separator=', ')}"
        )
