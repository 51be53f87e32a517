"""Arrays of any kind: every fault is one line, and a file is what its arrays in memory are.

Covers: harness/data/npz.py
"""

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data import dataset, extraction, integrity, normalization, npz
from harness.data.dataset import Dataset
from harness.data.sources import OWN_VALIDATION, measure
from harness.data.split import Split
from harness.nn.activations import Tanh
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import SGD
from harness.training.options import Options
from harness.training.recorders import Silence
from harness.training.trainer import Trainer


def content(
    kind: str = "float32", shape: tuple[int, ...] = (4,), train: int = 60
) -> dict[str, Any]:
    """A small classification of three classes."""
    generator = np.random.default_rng(3)
    made: dict[str, Any] = {}
    for part, count in (("train", train), ("test", 21)):
        values = generator.uniform(0, 255, (count, *shape))
        made[f"x_{part}"] = values.astype(kind)
        made[f"y_{part}"] = np.arange(count) % 3
    return made


def save(path: Path, given: dict[str, Any]) -> Path:
    np.savez(path, **given)
    return path


def load(path: Path, cache: Path, **options: Any) -> Dataset:
    return dataset.load("arrays", file=str(path), cache=cache, **options)


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(4,), (6, 5), (4, 5, 3), (2, 3, 4, 2)])
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_type_and_shape_are_kept(
    tmp_path: Path, kind: str, shape: tuple[int, ...], write: Callable[..., None]
) -> None:
    given = content(kind, shape)
    write(tmp_path / "own.npz", **given)
    data = load(tmp_path / "own.npz", tmp_path / "cache", num_val=0)
    assert (data.input_shape, data.classes, data.outputs) == (shape, 3, 3)
    assert data.class_names == ("0", "1", "2")
    assert data.is_image == (kind == "uint8" and shape in ((6, 5), (4, 5, 3)))
    for part, name in ((data.train, "train"), (data.test, "test")):
        assert part.inputs.dtype == kind
        assert isinstance(part.inputs.base, np.memmap) or isinstance(part.inputs, np.memmap)
        np.testing.assert_array_equal(part.inputs, given[f"x_{name}"].reshape(len(part), -1))
        np.testing.assert_array_equal(part.labels, given[f"y_{name}"])
        assert part.labels.dtype == np.uint8
    sizes = measure("arrays", str(tmp_path / "own.npz"))
    assert (sizes.train, sizes.test, sizes.val) == (60, 21, 0)
    assert (sizes.input_shape, sizes.dtype, sizes.is_regression) == (shape, kind, False)


@pytest.mark.parametrize("form", ["uint8", "int8", ">i2", "int32", "uint64"])
def test_any_type_of_label_is_the_same_data_set(tmp_path: Path, form: str) -> None:
    given = content()
    expected = Dataset.from_arrays(**given)
    for name in ("y_train", "y_test"):
        given[name] = given[name].astype(form)
    data = load(save(tmp_path / "own.npz", given), tmp_path / "cache", num_val=0.15)
    assert data.sha256 == expected.sha256
    assert data.train.rows is not None
    assert expected.train.rows is not None
    np.testing.assert_array_equal(data.train.rows, expected.train.rows)


def test_byte_order_and_layout_change_nothing(tmp_path: Path) -> None:
    given = content("float64", (6, 5))
    digest = Dataset.from_arrays(**given).sha256
    given["x_train"] = np.asfortranarray(given["x_train"].astype(">f8"))
    given["x_test"] = given["x_test"].astype(">f8")
    assert Dataset.from_arrays(**given).sha256 == digest
    data = load(save(tmp_path / "own.npz", given), tmp_path / "cache", num_val=0)
    assert data.sha256 == digest
    np.testing.assert_array_equal(data.train.inputs, given["x_train"].reshape(60, 30))


def test_a_digest_tells_values_types_shapes_and_classes_apart() -> None:
    given = content()
    other = {**given, "x_train": given["x_train"] + 1}
    inputs = {key: value for key, value in given.items() if key[0] == "x"}
    wide = given | {key: value.reshape(-1, 2, 2) for key, value in inputs.items()}
    double = given | {key: value.astype(np.float64) for key, value in inputs.items()}
    four = Dataset.from_arrays(**given, classes=["a", "b", "c", "d"])
    validated = {**given, "x_val": given["x_test"], "y_val": given["y_test"]}
    made = [Dataset.from_arrays(**each) for each in (given, other, wide, double, validated)]
    assert len({each.sha256 for each in (*made, four)}) == 6


def test_a_name_of_a_class_changes_no_digest(tmp_path: Path) -> None:
    given = content()
    first = load(save(tmp_path / "own.npz", given), tmp_path / "cache")
    for names in (["a", "b", "c"], ["a", "b", "ü x"]):
        named = save(tmp_path / "own.npz", given | {"classes": np.array(names)})
        data = load(named, tmp_path / "cache")
        assert (data.sha256, data.class_names) == (first.sha256, tuple(names))
        assert integrity.damage(tmp_path / "cache" / data.sha256) is None
        assert data.class_names == Dataset.from_arrays(**given, classes=names).class_names
    names = ["a", "b", "c", "no example"]
    data = load(save(tmp_path / "own.npz", given | {"classes": np.array(names)}), tmp_path / "c")
    assert (data.classes, data.class_names) == (4, tuple(names))


def test_a_regression(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    given = content()
    for part, count in (("train", 60), ("test", 21)):
        given[f"y_{part}"] = generator.normal(size=count)
    data = load(save(tmp_path / "own.npz", given), tmp_path / "cache")
    assert (data.classes, data.class_names, data.outputs, data.is_image) == (0, (), 1, False)
    assert data.train.labels.shape == (60, 1)
    assert data.train.labels.dtype == np.float32
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (51, 9, 21)
    assert measure("arrays", str(tmp_path / "own.npz")).is_regression
    many = Dataset.from_arrays(given["x_train"], generator.normal(size=(60, 3)), num_val=0)
    assert (many.outputs, many.val, len(many.test)) == (3, None, 0)


def test_an_own_validation_set_is_used(tmp_path: Path) -> None:
    given = content()
    given |= {"x_val": given["x_test"] + 1, "y_val": given["y_test"]}
    path = save(tmp_path / "own.npz", given)
    for data in (load(path, tmp_path / "cache"), Dataset.from_arrays(**given)):
        assert (data.train.rows, len(data.train)) == (None, 60)
        assert data.val is not None
        assert data.val.rows is None
        np.testing.assert_array_equal(data.val.inputs, given["x_val"])
    assert load(path, tmp_path / "cache", num_val=0).val is None
    assert len(load(path, tmp_path / "cache", num_val=OWN_VALIDATION).val or ()) == 21
    for typed in (9, 0.2):
        problem = f"num_val={typed}: the data set has a validation set of 21, x_val; leave"
        with pytest.raises(ValueError, match=problem):
            load(path, tmp_path / "cache", num_val=typed)
        with pytest.raises(ValueError, match=problem):
            Dataset.from_arrays(**given, num_val=typed)


def test_arrays_in_memory_are_trained_on_without_files_or_a_test_set() -> None:
    given = content()
    given["x_train"][:, 0] = 100 * given["y_train"]
    data = Dataset.from_arrays(given["x_train"], given["y_train"], num_val=12)
    layers = mlp((4,), data.outputs, width=8, activation=Tanh())
    network = Network.create(layers, 4, np.random.default_rng(1))
    fitted = normalization.fit("minmax", data.train.inputs, data.train.rows)
    options = Options(batch=8, lr=0.1, epochs=30)
    trained = Trainer(network, data, SGD(network.parameters), fitted, options)
    result = trained.run(Silence())
    assert trained.monitor.best_value == 0
    assert set(result.values) == {"best/epoch", "best/val_error"}
    assert result.probabilities.shape == (0, 3)


def test_in_memory_nothing_is_copied_and_cut_in_proportion() -> None:
    given = content()
    data = Dataset.from_arrays(**given)
    assert np.shares_memory(data.train.inputs, given["x_train"])
    assert data.val is not None
    assert data.val.rows is not None
    assert np.bincount(data.val.labels[data.val.rows]).tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match="num_val=60: expected 0 to 59"):
        Dataset.from_arrays(**given, num_val=60)
    with pytest.raises(ValueError, match="classes: expected different names, found 'a' twice"):
        Dataset.from_arrays(**given, classes=["a", "a", "b"])


def labels(values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda given: given.update(y_train=np.resize(np.array(values), 60))


def change(**new: Any) -> Callable[[dict[str, Any]], None]:
    return lambda given: given.update(new)


BAD = {
    "missing": (lambda g: g.pop("y_test"), "found no y_test but"),
    "capital": (
        change(X_val=np.zeros((3, 4))), r"X_val: expected only .*; did you mean 'x_val'\?"
    ),
    "typo": (change(x_vall=np.zeros((3, 4))), "x_vall: expected only .*; did you mean 'x_val'?"),
    "half": (change(x_val=np.zeros((3, 4), np.float32)), "y_val: expected the labels of x_val"),
    "lengths": (change(y_test=np.zeros(20, int)), "y_test: expected 21 labels, .* found 20"),
    "shapes": (change(x_test=np.zeros((21, 5), np.float32)), r"x_test: expected \(N, 4\) of"),
    "types": (change(x_test=np.zeros((21, 4))), "of float32 like x_train, found .* of float64"),
    "integers": (change(x_train=np.zeros((60, 4), int)), "x_train: expected uint8, float32 or "
                 r"float64, found int64; convert it, such as x_train\.astype"),
    "flat": (change(x_train=np.zeros(60, np.float32)), r"x_train: expected examples .* \(60,\)"),
    "empty": (change(x_train=np.zeros((0, 4), np.float32), y_train=np.zeros(0, int)),
              r"x_train: expected examples .* \(0, 4\)"),
    "nan": (change(x_train=np.full((60, 4), np.nan, np.float32)),
            "x_train: expected finite numbers, found nan in example 0"),
    "infinite": (change(x_test=np.full((21, 4), np.inf, np.float32)), "x_test: .* found inf"),
    "one hot": (change(y_train=np.zeros((60, 3), int)), "y_train: expected labels"),
    "text": (labels(["a", "b"]), "y_train: .* found text; number the classes: `classes, labels ="),
    "bool": (labels([True, False]), "y_train: expected whole numbers, .* found bool"),
    "negative": (labels([-1, 0, 1]), "y_train: expected labels from 0 .* found -1 to 1"),
    "one class": (labels([0]), "y_train: expected labels from 0 and 2 to 4096 classes"),
    "gaps": (labels([0, 2]), "y_train: expected labels 0 to 2 without gaps, found none that is 1"),
    "many": (labels([0, 1, 10**12]), "2 to 4096 classes, found 0 to 1000000000000"),
    "above": (change(y_test=np.full(21, 3)), "y_test: expected labels 0 to 2, found 3"),
    "mixed": (change(y_test=np.zeros(21)), "y_test: expected the type and shape of y_train"),
    "nan target": (change(y_train=np.full(60, np.nan), y_test=np.zeros(21)),
                   "y_train: expected finite numbers, found nan"),
    "large target": (change(y_train=np.full(60, 1e300), y_test=np.zeros(21)),
                     "y_train: expected finite numbers, found 1e"),
    "large input": (change(x_train=np.full((60, 4), 1e299), x_test=np.zeros((21, 4))),
                    r"x_train: .* found 1e\+299 in .*; float32 ends at 3\.4e\+38: scale them"),
    "too large target": (change(y_train=np.full(60, -2e25), y_test=np.zeros(21)),
                         r"y_train: expected targets of at most 1e\+15 in .* found 2e\+25; scale"),
    "objects": (change(x_train=np.full((60, 4), None)), "x_train: .* would need pickle"),
    "object labels": (change(y_train=np.full(60, None)), "y_train: .* would need pickle"),
    "few names": (change(classes=np.array(["a", "b"])), "y_train: expected labels 0 to 1, found 2"),
    "same names": (change(classes=np.array(["a", "a", "b"])), "classes: .* found 'a' twice"),
    "no text": (change(classes=np.zeros((3, 2))), r"classes: .* found \(3, 2\) of fl"),
    "a line": (change(classes=np.array(["a", "b\n", "c"])), "classes: .* that can be printed"),
    "of numbers": (change(classes=np.array(list("abc")), y_train=np.zeros(60), y_test=np.zeros(21)),
                   "classes: expected none, because y_train has the targets"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_one_line(tmp_path: Path, name: str) -> None:
    edit, problem = BAD[name]
    given = content()
    edit(given)
    path = save(tmp_path / "own.npz", given)
    with pytest.raises(ValueError, match=problem) as caught:
        load(path, tmp_path / "cache", num_val=0)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    cache = tmp_path / "cache"
    assert not cache.exists() or {path.name for path in cache.iterdir()} <= {".lock", "index"}
    if name not in ("missing", "typo", "capital", "objects", "object labels", "no text"):
        names = given.pop("classes", None)
        with pytest.raises(ValueError, match=problem):
            Dataset.from_arrays(**given, classes=names if names is None else names.tolist())


def test_other_files_are_one_line(tmp_path: Path) -> None:
    good = save(tmp_path / "good.npz", content()).read_bytes()
    np.save(tmp_path / "one.npy", np.zeros(3))
    files = {
        "torn.npz": good[: len(good) // 2],
        "text.npz": b"x_train",
        "empty.npz": b"",
        "one.npz": (tmp_path / "one.npy").read_bytes(),
    }
    for name, bad in files.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(ValueError, match=rf"{name}: expected an \.npz file") as caught:
            load(tmp_path / name, tmp_path / "cache")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"dataset\.file=.*none\.npz: expected .* no such file"):
        load(tmp_path / "none.npz", tmp_path / "cache")
    with pytest.raises(ValueError, match=r"dataset\.file=.*: expected an \.npz file, found a fol"):
        load(tmp_path, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"dataset=arrays: expected dataset\.file=FILE\.npz"):
        dataset.load("arrays", cache=tmp_path / "cache")


def test_any_damage_of_a_file_is_one_line_or_harmless(tmp_path: Path) -> None:
    path = save(tmp_path / "own.npz", content(train=12))
    good, expected = path.read_bytes(), Dataset.from_arrays(**content(train=12)).sha256
    generator = np.random.default_rng(0)
    found = 0
    for trial in range(300):
        bad = bytearray(good)
        bad[generator.integers(len(bad))] ^= 1 << int(generator.integers(8))
        path.write_bytes(bad[: generator.integers(len(bad))] if trial % 5 == 0 else bad)
        digest, problem = attempt(path, tmp_path / "cache")
        assert "\n" not in problem, trial
        assert digest == expected or problem.startswith(str(path)), trial
        found += bool(problem)
    assert found > 100


def attempt(path: Path, cache: Path) -> tuple[str, str]:
    """The digest of a file, or the problem with it."""
    try:
        return load(path, cache, num_val=0).sha256, ""
    except ValueError as error:
        return "", str(error)


def rewritten(path: Path, name: str, raw: bytes, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """The .npz file with another entry of this name."""
    with zipfile.ZipFile(path) as archive:
        entries = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for each, old in entries.items():
            archive.writestr(each, raw if each == name else old)
    return path


def npy(shape: tuple[int, ...], raw: bytes) -> bytes:
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + raw


def test_a_header_that_asks_for_more_than_there_is(tmp_path: Path) -> None:
    path = save(tmp_path / "own.npz", content())
    rewritten(path, "x_train.npy", npy((10**12, 4), b"\0" * 960))
    with pytest.raises(ValueError, match=r"expected 16,000,000,000,000 bytes .* found 960"):
        load(path, tmp_path / "cache")
    rewritten(path, "x_train.npy", npy((60, 4), b"\0" * 5000))
    with pytest.raises(ValueError, match=r"x_train: expected 960 bytes .* found 5,000"):
        load(path, tmp_path / "cache")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "own.npz", content())
    rewritten(path, "x_train.npy", npy((60, 1 << 16), bytes(60 << 18)))
    assert path.stat().st_size < 100_000, "15 MB in little space"
    monkeypatch.setattr(npz, "MAX_BYTES", 15 << 20)
    with pytest.raises(ValueError, match=r"ask for 15,[0-9,]+ bytes, more than the limit"):
        load(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    rewritten(path, "x_train.npy", npy((60, 4), bytes(960)), zipfile.ZIP_LZMA)
    with pytest.raises(
        ValueError, match=r"x_train: expected a file written by np\.savez, found an"
    ):
        load(path, tmp_path / "cache")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Exploit:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    given = content()
    for name in ("x_train", "y_train", "classes"):
        bad = np.empty((60, 4) if name == "x_train" else 60, object)
        bad[...] = Exploit()
        path = save(tmp_path / "own.npz", given | {name: bad})
        with pytest.raises(ValueError, match=f"{name}: expected"):
            load(path, tmp_path / "cache")
    assert not (tmp_path / "ran").exists()


def test_the_cache_is_verified_and_restored(tmp_path: Path) -> None:
    given, cache = content("float64"), tmp_path / "cache"
    names = np.array(["a", "b", "c"])
    path = save(tmp_path / "own.npz", given | {"classes": names})
    digest = extraction.prepare("arrays", str(path), cache)
    assert extraction.prepare("arrays", str(path), cache) == digest
    folder = cache / digest
    for file in sorted(folder.glob("[!.]*.[nj]*")):
        good = file.read_bytes()
        for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-1], good + b"\0", b""):
            file.write_bytes(bad)
            assert integrity.damage(folder) is not None, file
            with pytest.raises(ValueError, match="expected an extracted data set"):
                dataset.open_dataset(digest, cache, Split(0))
            assert extraction.prepare("arrays", str(path), cache) == digest
            assert integrity.damage(folder) is None
    (folder / "x_test.npy").write_bytes(b"")
    (line,) = extraction.verify(cache)
    assert line.endswith("extracted again")
    shutil.rmtree(cache)
    extraction.restore(digest, "arrays", str(path), cache)
    assert dataset.open_dataset(digest, cache, Split(0.5)).class_names == ("a", "b", "c")
    shutil.rmtree(cache)
    save(path, given | {"x_test": given["x_test"] + 1})
    with pytest.raises(ValueError, match="they have changed since"):
        extraction.restore(digest, "arrays", str(path), cache)


def test_any_damage_of_a_header_in_the_cache_is_found_or_harmless(tmp_path: Path) -> None:
    path = save(tmp_path / "own.npz", content("float64"))
    folder = tmp_path / "cache" / extraction.prepare("arrays", str(path), tmp_path / "cache")
    file = folder / "x_train.npy"
    good, array = file.read_bytes(), np.load(file)
    generator = np.random.default_rng(0)
    for _ in range(300):
        raw = bytearray(good)
        raw[generator.integers(0, 128)] = generator.integers(0, 256)
        file.write_bytes(raw)
        if integrity.damage(folder) is None:
            np.testing.assert_array_equal(np.load(file), array)
