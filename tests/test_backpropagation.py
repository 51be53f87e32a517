"""docs/backpropagation.md: its numbers are recomputed, and what it names exists."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from harness.nn.losses import CrossEntropy
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import SGD

PAGE = Path(__file__).resolve().parents[1] / "docs/backpropagation.md"
TEXT = PAGE.read_text()
NAMED = sorted(set(re.findall(r"\[`([\w.]+)`\]\((\.\./[\w/]+\.py)\)", TEXT)))
# Modules without a formula: they choose, measure or load.
UNDERIVED = {
    "__init__.py", "initialization.py", "metrics.py", "parameters.py", "compiled/__init__.py",
    "compiled/numba_loading.py", "compiled/supports.py", "compiled/workers.py", "denormals.py",
    "compiled/deformation.py", "compiled/regularization.py", "differences.py",
    "loss_checks.py",
}  # fmt: skip


def definitions(path: Path) -> set[str]:
    """Functions and classes of a module, and methods as Class.method."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (n.name for n in node.body if isinstance(n, ast.FunctionDef))
            names |= {f"{node.name}.{name}" for name in inner}
    return names


@pytest.mark.parametrize(("name", "file"), NAMED)
def test_what_is_named_exists(name: str, file: str) -> None:
    assert name in definitions((PAGE.parent / file).resolve())


def test_every_module_of_nn_is_explained() -> None:
    files = {file.split("/harness/nn/")[1] for _, file in NAMED if "/harness/nn/" in file}
    room = PAGE.parents[1] / "harness/nn"
    modules = {path.relative_to(room).as_posix() for path in room.rglob("*.py")}
    assert files == modules - UNDERIVED


def test_every_section_of_formulas_has_its_code_and_its_proof() -> None:
    sections = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    assert [section.split()[0] for section in sections[:16]] == [str(n) for n in range(1, 17)]
    for section in sections[1:16]:
        title = section.splitlines()[0]
        if title.split()[0] not in ("7", "8"):
            assert "**Code** [`" in section, title
        if title.split()[0] != "8":
            assert "**Proof** [`" in section, title


def test_anchors_lead_to_headings() -> None:
    headings = re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def printed() -> dict[str, np.ndarray]:
    """The lines `name = numbers` of the worked example."""
    blocks = "".join(re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL))
    lines = [line.split("=") for line in blocks.splitlines()]
    return {name.strip(): np.array(ast.literal_eval(value.strip())) for name, value in lines}


def test_the_worked_example() -> None:
    given = printed()
    network, loss = Network(mlp((2,), 2, width=2), 2, np.float64), CrossEntropy()
    w1, b1, w2, b2 = network.parameters.arrays.values()
    for array, name in ((w1, "W1"), (b1, "b1"), (w2, "W2"), (b2, "b2")):
        array[:] = given.pop(name)
    x, t = given.pop("x"), given.pop("t")
    p, delta2 = np.empty((2, 1, 2))
    logits = network.forward(x)
    loss.predict(logits, p)
    loss.gradient(logits, t, delta2)
    below, hidden, above = network.layers
    computed = {
        "z1": x @ w1 + b1,
        "a1": hidden.forward(below.forward(x, True), True).copy(),
        "z2": logits.copy(),
        "p": p,
        "loss": loss.value(logits, t)[0],
        "delta2": delta2.copy(),
        "down": above.backward(delta2).copy(),
    }
    gradient = network.backward(delta2)
    computed["delta1"] = below.delta.copy()
    flat = gradient.into(np.empty_like(network.parameters.flat))
    for array, number in zip(network.by_layer(flat), "12", strict=True):
        computed |= {f"dW{number}": array["weights"], f"db{number}": array["bias"]}
    estimate = computed["loss"] - 0.5 * (flat**2).sum()
    SGD(network.parameters).step(gradient, lr=0.5)
    computed |= {"newW1": w1, "newb1": b1, "newW2": w2, "newb2": b2}
    computed["after"] = loss.value(network.forward(x), t)[0]
    assert given.keys() == computed.keys()
    for name, values in given.items():
        np.testing.assert_allclose(computed[name], values, rtol=0, atol=5.1e-5, err_msg=name)
    assert f"{estimate:.4f}" in TEXT


def test_the_split_of_the_first_layer() -> None:
    """Section 11: x W1 and x.T d from ink, a row that all pixels share, and column sums."""
    generator = np.random.default_rng(1)
    u = generator.integers(1, 256, (1, 30)) * (generator.random((1, 30)) < 0.2)
    v, c, d = generator.normal(size=(30, 4)), generator.normal(size=4), generator.normal(size=4)
    a, b = 2 / 255, -1.0
    x, w1, columns = a * u + b, v + c, v.sum(axis=0)
    ink = u[0] > 0
    forward = a * u[:, ink] @ v[ink] + a * u.sum() * c + b * columns + b * 30 * c
    np.testing.assert_allclose(x @ w1, forward, rtol=1e-12)
    v[ink] += a * np.outer(u[0, ink], d)
    np.testing.assert_allclose(v + (c + b * d), w1 + np.outer(x, d), rtol=1e-12)
    np.testing.assert_allclose(columns + a * u.sum() * d, v.sum(axis=0), rtol=1e-12)
