"""Wrong code in the user's parts: one line, a FAILED run with a traceback, and the sweep goes on.

Covers: harness/job/rehearsal.py harness/job/layer_rehearsal.py
"""

from pathlib import Path

import pytest

from tests.conftest import RUN, Command, histories, small

HEADER = """
import os, sys, threading, time
import numpy as np
from harness.data.normalization import Standard
from harness.nn.activations import ReLU
from harness.nn.layers import Activate, Dense, Layer
from harness.nn.losses import CrossEntropy
from harness.nn.optimizers import SGD
"""
# Kind, code that defines `wrong`, and what the line says.
IN_JOB = {
    "init": ("optimizer", """
class wrong:
    def __init__(self, parameters, *, lr: float = 0.1):
        raise KeyError("in init")
""", "optimizer=init:wrong: KeyError: 'in init' ("),
    "init_exits": ("optimizer", """
class wrong:
    def __init__(self, parameters, *, lr: float = 0.1):
        sys.exit(3)
""", "optimizer=init_exits:wrong: SystemExit: 3 ("),
    "xavier": ("activation", """
class wrong(ReLU):
    initialization = "xavier"
""", "activation=xavier:wrong: ValueError: wrong: initialization='xavier': expected 'glorot' or"),
    "texts": ("loss", """
class wrong(CrossEntropy):
    def value(self, outputs, targets):
        return ["a"] * len(outputs)
""", "wrong.value: expected (B,) finite numbers, one for each example, found str"),
    "base": ("optimizer", """
class Odd(BaseException):
    def __str__(self):
        raise ValueError
class wrong:
    def __init__(self, parameters, *, lr: float = 0.1):
        raise Odd
""", "optimizer=base:wrong: Odd: (its text cannot be shown: ValueError) ("),
    "step": ("optimizer", """
class wrong(SGD):
    def step(self, gradient, lr):
        raise KeyError("in step")
""", "KeyError: 'in step' ("),
    "exits": ("optimizer", """
class wrong(SGD):
    def step(self, gradient, lr):
        sys.exit("bye")
""", "SystemExit: bye ("),
    "dies": ("optimizer", """
class wrong(SGD):
    def step(self, gradient, lr):
        os._exit(0)
""", "exit status 0 and no end record"),
    "nan": ("optimizer", """
class wrong(SGD):
    def step(self, gradient, lr):
        self._parameters.flat[:] = np.nan
""", "optimizer=nan:wrong: expected finite parameters after its first steps with lr=0.1, found"),
    "nan_late": ("optimizer", """
class wrong(SGD):
    steps = 0
    def step(self, gradient, lr):
        wrong.steps += 1
        super().step(gradient, lr if wrong.steps < 39 else np.nan)
""", "in epoch 2: optimizer=nan_late:wrong wrote numbers that are not finite into the parameters"),
    "no_step": ("optimizer", """
class wrong:
    state = {}
    def __init__(self, parameters): pass
""", "optimizer=no_step:wrong: expected an object with state, step; wrong has no step"),
    "state_list": ("optimizer", """
class wrong(SGD):
    state = []
""", "optimizer=state_list:wrong: expected state to be arrays by name, found []"),
    "state_number": ("optimizer", """
class wrong(SGD):
    state = {"steps": 3}
""", "expected state['steps'] to be an array, found 3"),
    "state_copies": ("optimizer", """
class wrong(SGD):
    state = property(lambda self: {"change": self._change.flat.copy()})
""", "expected state['change'] to be the array itself, not a copy"),
    "state_after_fit": ("normalization", """
class wrong(Standard):
    fitted = False
    def fit(self, inputs, rows=None):
        super().fit(inputs, rows)
        self.fitted = True
    @property
    def state(self):
        assert self.fitted
        return super().state
""", ""),
    "late_state": ("optimizer", """
class wrong(SGD):
    moments = None
    @property
    def state(self):
        return {} if self.moments is None else {"moments": self.moments}
    def step(self, gradient, lr):
        if self.moments is None:
            self.moments = np.zeros(len(self._parameters.flat))
        super().step(gradient, lr)
""", "optimizer=late_state:wrong: expected the same arrays in state from the beginning, "
     "each of one shape and type; moments changed after the first steps; create it in __init__"),
    "wider_state": ("optimizer", """
class wrong(SGD):
    def __init__(self, parameters):
        super().__init__(parameters)
        self.mean = np.zeros(1, np.float32)
    state = property(lambda self: {"mean": self.mean})
    def step(self, gradient, lr):
        self.mean = self.mean + np.float64(lr)
""", "expected the same arrays in state from the beginning, each of one shape and type; mean "
     "changed"),
    "hidden_counter": ("optimizer", """
class wrong(SGD):
    count = 0
    def step(self, gradient, lr):
        self.count += 1
        super().step(gradient, lr / self.count)
""", "optimizer=hidden_counter:wrong: a resumed run would differ: a new optimizer with the "
     "restored state takes different steps; put all that step changes into state"),
    "fifth_step": ("optimizer", """
class wrong(SGD):
    def __init__(self, parameters):
        super().__init__(parameters)
        self.count, self.slow = np.zeros((), np.int64), parameters.flat.copy()
    state = property(lambda self: {"count": self.count})
    def step(self, gradient, lr):
        super().step(gradient, lr)
        self.count += 1
        if self.count % 5 == 0:
            self.slow += 0.5 * (self._parameters.flat - self.slow)
            self._parameters.flat[:] = self.slow
""", "optimizer=fifth_step:wrong: a resumed run would differ: a new optimizer with the "
     "restored state takes different steps"),
    "counter": ("optimizer", """
class wrong(SGD):
    def __init__(self, parameters):
        super().__init__(parameters)
        self.count, self.begin = np.zeros((), np.int64), parameters.flat.copy()
    state = property(lambda self: {"count": self.count})
    def step(self, gradient, lr):
        self.count += 1
        super().step(gradient, lr / self.count)
        self._parameters.flat += 0.001 * (self.begin - self._parameters.flat)
""", ""),
    "forward": ("activation", """
class wrong(ReLU):
    def forward(self, z, out):
        raise KeyError("in forward")
""", "KeyError: 'in forward' ("),
    "numpy_raises": ("activation", """
class wrong(ReLU):
    def forward(self, z, out):
        np.block([[z], []])
""", "numpy_raises.py, line 12)"),
    "forward_nan": ("activation", """
class wrong(ReLU):
    def forward(self, z, out):
        out[:] = np.nan
""", "wrong.forward(z, out): expected finite numbers, found [nan"),
    "returns": ("activation", """
class wrong(ReLU):
    def forward(self, z, out):
        return np.maximum(z, 0)
""", "wrong.forward(z, out): expected it to write to `out`, but `out` is unchanged"),
    "shape": ("model", """
class Cut(Layer):
    def forward(self, inputs, training):
        return inputs[:, :3]
def wrong(input_shape, outputs):
    return [Dense(8), Cut(), Dense(outputs)]
""", "expected Cut.forward to return an array (3, 8) of float32, found (3, 3) of float32"),
    "dtype": ("model", """
class Double(Layer):
    def forward(self, inputs, training):
        return inputs.astype(float)
def wrong(input_shape, outputs):
    return [Dense(8), Double(), Dense(outputs)]
""", "expected Double.forward to return an array (3, 8) of float32, found (3, 8) of float64"),
    "nothing": ("model", """
def wrong(input_shape, outputs):
    pass
""", "model=nothing:wrong: expected it to return a list of layers, found None"),
    "layer_mean": ("model", """
class Mean(Layer):
    mean = 0.0
    def forward(self, inputs, training):
        if training:
            self.mean = 0.99 * self.mean + 0.01 * inputs.mean(axis=0)
        return inputs - self.mean
    def backward(self, delta):
        return delta
def wrong(input_shape, outputs):
    return [Dense(5), Mean(), Dense(outputs)]
""", "its layers keep something from one step to the next (seen in Mean 2.mean), and only"),
    "layer_replaces": ("model", """
class Mean(Layer):
    def build(self, input_shape):
        self.shapes = {"mean": input_shape}
        return input_shape
    def forward(self, inputs, training):
        if training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.mean(axis=0)
        return inputs - self.mean
    def backward(self, delta):
        return delta
    def gradient(self, delta, out):
        out["mean"][:] = 0
def wrong(input_shape, outputs):
    return [Dense(5), Mean(), Dense(outputs)]
""", "Mean: mean was replaced by another array, which is neither trained nor saved; change it in"),
    "layer_buffer": ("model", """
class Mean(Layer):
    def forward(self, inputs, training):
        mean = self.buffer("mean", inputs.shape[1:])
        if training:
            mean[:] = 0.9 * np.nan_to_num(mean) + 0.1 * inputs.mean(axis=0)
        return inputs - mean if training else np.nan_to_num(inputs - mean)
    def backward(self, delta):
        return delta
def wrong(input_shape, outputs):
    return [Dense(5), Mean(), Dense(outputs)]
""", "model=layer_buffer:wrong: its layers keep something from one step to the next, and only"),
    "layer_noise": ("model", """
class Noise(Layer):
    def __init__(self):
        self.generator = np.random.default_rng(0)
    def forward(self, inputs, training):
        noise = self.generator.normal(size=inputs.shape).astype(inputs.dtype)
        return inputs + noise if training else inputs
    def backward(self, delta):
        return delta
def wrong(input_shape, outputs):
    return [Dense(5), Noise(), Dense(outputs)]
""", "its layers keep something from one step to the next (seen in Noise 2.generator)"),
    "counts": ("activation", """
class wrong(ReLU):
    steps = 0
    def forward(self, z, out):
        self.steps += 1
        super().forward(z, out)
""", "one step to the next (seen in Activate 2.activation.steps), and only parameters are saved"),
    "layer_fine": ("model", """
class Noise(Layer):
    def build(self, input_shape):
        self.shape = input_shape
        return input_shape
    def draw(self, batch, generator):
        self.noise = generator.normal(size=(batch, *self.shape)).astype(self.dtype)
    def forward(self, inputs, training):
        self.scratch = np.empty((1000, 5))
        self.scratch[: len(inputs)] = inputs
        return inputs + self.noise[: len(inputs)] if training else inputs
    def backward(self, delta):
        return delta
def wrong(input_shape, outputs):
    return [Dense(5), Noise(), Dense(outputs)]
""", ""),
    "outputs": ("model", """
def wrong(input_shape, outputs):
    return [Dense(outputs + 1)]
""", "model=outputs:wrong: expected 4 outputs, found 5"),
    "loss_shape": ("loss", """
class wrong(CrossEntropy):
    def value(self, outputs, targets):
        return 3.0
""", "wrong.value: expected (B,) finite numbers, one for each example, found shape ()"),
    "loss_nan": ("loss", """
class wrong(CrossEntropy):
    def value(self, outputs, targets):
        return np.full(len(outputs), np.nan)
""", "wrong.value: expected (B,) finite numbers, one for each example, found [nan nan]"),
    "loss_list": ("loss", """
class wrong(CrossEntropy):
    def value(self, outputs, targets):
        return super().value(outputs, targets).tolist()
""", ""),
    "loss_raises": ("loss", """
class wrong(CrossEntropy):
    def gradient(self, outputs, targets, out):
        raise KeyError("in gradient")
""", "KeyError: 'in gradient' ("),
    "predicts_nan": ("loss", """
class wrong(CrossEntropy):
    def predict(self, outputs, out):
        super().predict(outputs, out)
        out[(outputs == 0).sum(axis=1) == 0] = np.nan
    def gradient(self, outputs, targets, out):
        CrossEntropy().gradient(outputs, targets, out)
""", "loss=predicts_nan:wrong: ValueError: wrong.predict(outputs, out): expected rows of "
     "probabilities that add up to 1, found nan, nan, nan, nan with the sum nan"),
    "loss_counts": ("loss", """
class wrong(CrossEntropy):
    steps = 0
    def gradient(self, outputs, targets, out):
        self.steps += 1
        super().gradient(outputs, targets, out)
""", "loss=loss_counts:wrong: it keeps something from one call to the next (seen in steps), or"),
    "loss_clears": ("loss", """
class wrong(CrossEntropy):
    def gradient(self, outputs, targets, out):
        super().gradient(outputs, targets, out)
        targets[:] = 0
""", "gradient(outputs, targets, out): must not modify targets; modify a copy"),
    "rebinds": ("optimizer", """
class wrong(SGD):
    def step(self, gradient, lr):
        p = self._parameters
        p.flat = p.flat - lr * gradient.into(np.empty_like(p.flat))
""", "AttributeError: flat cannot be replaced, because the network would keep using the old"),
    "schedule_counts": ("schedule", """
def wrong(epochs):
    calls = []
    return lambda time: calls.append(time) or 1.0
""", "schedule=schedule_counts:wrong: it keeps something from one call to the next (seen in "),
    "augmentation_draws": ("augmentation", """
def wrong(input_shape):
    return lambda pixels, generator, out: np.add(pixels, np.random.random(), out=out)
""", "augmentation=augmentation_draws:wrong: it keeps something from one call to the next, or"),
    "metric_counts": ("metrics", """
calls = []
def wrong(probabilities, labels):
    calls.append(1)
    return len(calls)
""", "metrics=[metric_counts:wrong]: it keeps something from one call to the next (seen in "),
    "forgets": ("normalization", """
class wrong(Standard):
    def apply(self, inputs, out):
        super().apply(inputs, out)
    def restore(self, state):
        pass
""", "normalization=forgets:wrong: a new object with the restored state gives different results"),
    "schedule_text": ("schedule", """
def wrong(epochs):
    return lambda time: "text"
""", "schedule=schedule_text:wrong: expected a finite number at time 0, found 'text'"),
    "schedule_none": ("schedule", """
def wrong(epochs):
    def factor(time):
        if time < 1:
            return 1.0
    return factor
""", "schedule=schedule_none:wrong: expected a finite number at time 1, found None"),
    "schedule_late": ("schedule", """
def wrong(epochs):
    return lambda time: float("nan") if time >= 1 else 1
""", "the learning rate is nan in epoch 2"),
    "fit": ("normalization", """
class wrong(Standard):
    def fit(self, inputs, rows=None):
        raise KeyError("in fit")
""", "KeyError: 'in fit' ("),
    "apply": ("normalization", """
class wrong(Standard):
    def apply(self, inputs, out):
        return inputs * 2
""", "normalization=apply:wrong: apply(inputs, out): expected it to write finite numbers to `out`"),
    "apply_shape": ("normalization", """
class wrong(Standard):
    def apply(self, inputs, out):
        out[:] = np.zeros((3, 3))
""", "normalization=apply_shape:wrong: ValueError: could not broadcast"),
    "object": ("normalization", """
class wrong(Standard):
    state = {"a": object()}
""", "normalization=object:wrong: expected state['a'] to be an array, found object"),
    "deforms_nothing": ("augmentation", """
def wrong(input_shape):
    return lambda pixels, generator, out: None
""", "f(pixels, generator, out): expected it to write finite numbers to `out`"),
    "metric_text": ("metrics", """
def wrong(probabilities, labels):
    return "0.5"
""", "metric wrong: expected a number, found '0.5'"),
    "metric_raises": ("metrics", """
def wrong(probabilities, labels):
    raise KeyError("in metric")
""", "KeyError: 'in metric' ("),
    "metric_nan": ("metrics", """
def wrong(probabilities, labels):
    return float("nan")
""", "metric train/wrong is nan in epoch 1"),
    "fine": ("optimizer", """
class wrong(SGD):
    def step(self, gradient, lr):
        print("hello from step")
        threading.Thread(target=time.sleep, args=(60,)).start()
        super().step(gradient, lr)
""", ""),
}  # fmt: skip
BEFORE = {
    "kind": ("loss", """
class wrong(CrossEntropy):
    kind = "something"
""", "loss=kind:wrong: expected kind to be classification or regression, found 'something'"),
    "no_loss": ("loss", "class wrong: pass", "expected an object with kind, value, gradient"),
    "loss_init": ("loss", """
class wrong:
    def __init__(self):
        raise KeyError("in init")
""", "loss=loss_init:wrong: KeyError: 'in init' ("),
    "loss_exits": ("loss", """
class wrong:
    def __init__(self):
        sys.exit(3)
""", "loss=loss_exits:wrong: SystemExit: 3 ("),
    "no_function": ("augmentation", "def wrong(input_shape): pass",
                    "augmentation=no_function:wrong: expected it to return a function, found None"),
    "imports": ("activation", "import nowhere_at_all", "No module named 'nowhere_at_all'"),
    "module_exits": ("activation", "sys.exit(0)", "activation=module_exits:wrong: SystemExit: 0"),
    "bare": ("optimizer", "def wrong(parameters, *, beta=0.9): pass",
             "the argument 'beta' needs an annotation and a default"),
}  # fmt: skip


def chosen(name: str, kind: str) -> str:
    """The setting of a module's part, as in a sweep file."""
    return f'metrics: [["{name}:wrong"]]' if kind == "metrics" else f'{kind}: "{name}:wrong"'


@pytest.mark.fault
def test_wrong_code_is_a_failed_run_in_one_line(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    lines = ["lr: 0.1", "grids:"]  # no width, which models of one's own may not have
    for name, (kind, code, _) in IN_JOB.items():
        (tmp_path / f"{name}.py").write_text(HEADER + code)
        lines.append(f"  - {chosen(name, kind)}")
    (tmp_path / "conf/sweep").mkdir(parents=True)
    (tmp_path / "conf/sweep/wrong.yaml").write_text("\n".join(lines))
    more = [each for each in small(idx_folder) if not each.startswith("width")]
    done = command(RUN, "-cd", "conf", "-m", "sweep=wrong", *more, "epochs=2", "tracking=none")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "hello from step" in done.stdout
    runs = histories(tmp_path)
    assert len(runs) == len(IN_JOB)
    for run, (name, (_, _, expected)) in zip(runs, IN_JOB.items(), strict=True):
        if not expected:
            assert run.status == "FINISHED", name
            continue
        assert run.status == "FAILED", name
        assert expected in str(run.error), name
        assert "\n" not in str(run.error)
        assert "PartError" not in str(run.error)
        assert "Diverged" not in str(run.error)
        assert done.stderr.count(f"({run.run}) failed: ") == (name != "dies")
        assert "traceback.txt" in run.artifacts or name == "dies"


@pytest.mark.parametrize("name", BEFORE)
def test_what_can_be_seen_before_is_refused(
    command: Command, tmp_path: Path, idx_folder: Path, name: str
) -> None:
    kind, code, expected = BEFORE[name]
    (tmp_path / f"{name}.py").write_text(HEADER + code)
    done = command(RUN, *small(idx_folder), f"{kind}={name}:wrong", "lr=0.1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert expected in done.stderr
    assert not list(tmp_path.glob("outputs/runs/*"))


def test_an_activation_is_chosen_beside_an_own_model(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """The defaults of a model's shared keys do not replace what other groups choose."""
    code = """
def wrong(input_shape, outputs, *, width: int = 3, activation: object = None):
    return [Dense(width), Activate(activation), Dense(outputs)]
"""
    (tmp_path / "own_model.py").write_text(HEADER + code)
    more = [each for each in small(idx_folder) if not each.startswith("width")]
    for choice in ([], ["activation=tanh"]):
        done = command(
            RUN, *more, "model=own_model:wrong", *choice, "epochs=1", "tracking=none", "lr=0.1"
        )
        assert done.returncode == 0, done.stderr
    found = [(run.params["activation"], run.params["width"]) for run in histories(tmp_path)]
    assert found == [("sigmoid", 3), ("tanh", 3)]


def test_an_augmentation_of_other_data_than_images(command: Command, tmp_path: Path) -> None:
    """There is no plot of deformed images, and no warning."""
    code = """
def wrong(input_shape):
    return lambda pixels, generator, out: np.add(pixels, generator.normal(size=pixels.shape), out)

def data():
    x, y = np.arange(60, dtype=np.float32).reshape(20, 3), np.arange(20) % 2
    return {"x_train": x, "y_train": y, "x_test": x + 0.5, "y_test": y}
"""
    (tmp_path / "own.py").write_text(HEADER + code)
    more = ("augmentation=own:wrong", "batch=4", "epochs=2", "width=4")
    done = command(RUN, "dataset=own:data", *more)
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = histories(tmp_path)
    assert "plots/learning_curves.png" in run.artifacts
    assert "plots/augmentation.png" not in run.artifacts
