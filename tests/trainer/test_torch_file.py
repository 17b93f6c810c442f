from __future__ import annotations

import collections
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from components.trainer.checkpoint_error import CheckpointError
from components.trainer.torch_file import torch_tensors
from tests.trainer.torch_files import Parameter, Storage, View, state_dict, view, write_legacy, write_zip

FORMATS = pytest.mark.parametrize("write", [write_zip, write_legacy], ids=["zip", "legacy"])
Write = Callable[..., None]

TENSORS = {
    "float32": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "float16": np.array([0.5, -2, 65504], np.float16),
    "bfloat16": np.array([[0.5], [-3e38]], ml_dtypes.bfloat16),
    "float64": np.array([1 / 3, 1e300]),
    "int64": np.array([-(2**60)]),
    "int32": np.array([-7], np.int32),
    "int16": np.array([-7], np.int16),
    "int8": np.array([-7], np.int8),
    "uint8": np.array([200], np.uint8),
    "bool": np.array([True, False]),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros([0, 4], np.float32),
}
TEN = Storage(np.arange(10, dtype=np.float32))


@FORMATS
def test_all_types_and_shapes_are_read(tmp_path: pathlib.Path, write: Write) -> None:
    path = tmp_path / "pytorch_model.bin"
    write(path, state_dict(TENSORS))
    tensors = torch_tensors(path)
    assert list(tensors) == list(TENSORS)
    for name, expected in TENSORS.items():
        assert (tensors[name].shape, tensors[name].dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(tensors[name].read(), expected, strict=True)


@FORMATS
@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        pytest.param(View(TEN, 0, (2, 5), (5, 1)), [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], id="whole"),
        pytest.param(View(TEN, 0, (5, 2), (1, 5)), [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]], id="transposed"),
        pytest.param(View(TEN, 3, (2, 2), (4, 2)), [[3, 5], [7, 9]], id="with an offset and gaps"),
        pytest.param(View(TEN, 9, (), ()), 9, id="the last element"),
        pytest.param(View(TEN, 4, (2, 3), (1, 0)), [[4, 4, 4], [5, 5, 5]], id="expanded"),
        pytest.param(View(TEN, 10, (0, 3), (3, 1)), np.zeros([0, 3]), id="empty, at the end"),
        pytest.param(View(TEN, 1, (2,), (1,), "_rebuild_tensor"), [1, 2], id="of the first function"),
        pytest.param(Parameter(View(TEN, 1, (2,), (1,))), [1, 2], id="a parameter"),
    ],
)
def test_views_of_one_storage(tmp_path: pathlib.Path, write: Write, tensor: object, expected: object) -> None:
    write(tmp_path / "file", {"before": View(TEN, 0, (10,), (1,)), "tensor": tensor})
    np.testing.assert_array_equal(torch_tensors(tmp_path / "file")["tensor"].read(), expected)


def test_a_storage_that_is_part_of_another(tmp_path: pathlib.Path) -> None:
    part = Storage(np.arange(10, dtype=np.float32), part=(4, 3))
    write_legacy(tmp_path / "file", {"tensor": View(part, 1, (2,), (1,))})
    np.testing.assert_array_equal(torch_tensors(tmp_path / "file")["tensor"].read(), [5, 6])
    write_legacy(tmp_path / "file", {"tensor": View(part, 1, (3,), (1,))})
    with pytest.raises(CheckpointError, match="tensor: needs 4 elements of its storage, which has 3"):
        torch_tensors(tmp_path / "file")


def test_an_archive_without_a_byte_order_and_of_another_name(tmp_path: pathlib.Path) -> None:
    write_zip(tmp_path / "file", state_dict(TENSORS), byte_order=None, root="pytorch_model")
    np.testing.assert_array_equal(torch_tensors(tmp_path / "file")["float32"].read(), TENSORS["float32"])


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


@FORMATS
@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(lambda path: Calls(os.mkdir, str(path)), "posix.mkdir", id="a function of the system"),
        pytest.param(lambda path: Calls(eval, f"open({str(path)!r}, 'w')"), "__builtin__.eval", id="a builtin"),
        pytest.param(lambda path: Calls(pathlib.Path.touch, path), r"__builtin__.getattr", id="a method"),
        pytest.param(lambda path: collections.Counter(), "collections.Counter", id="a harmless class"),
    ],
)
def test_what_no_tensor_needs_is_refused_and_not_run(
    tmp_path: pathlib.Path, write: Write, make: Callable[[pathlib.Path], object], name: str
) -> None:
    target = tmp_path / "executed"
    write(tmp_path / "file", {"weight": view(np.ones(3, np.float32)), "more": make(target)})
    with pytest.raises(CheckpointError, match=rf"file: names {name}, which no tensor of weights needs; nothing of it"):
        torch_tensors(tmp_path / "file")
    assert not target.exists()


# Pickles by hand: what a pickler would not write.
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
FLOAT_STORAGE = b"ctorch\nFloatStorage\n"


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(REBUILD + b"}X\x04\x00\x00\x00nameX\x01\x00\x00\x00xsb.", id="attributes of a known function"),
        pytest.param(FLOAT_STORAGE + b")R.", id="a call of a type of storage"),
        pytest.param(b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.", id="attributes of a class"),
        pytest.param(REBUILD + b")R.", id="arguments are missing"),
        pytest.param(b"X\x06\x00\x00\x00moduleQ.", id="a persistent object that is no storage"),
        pytest.param(b"(X\x07\x00\x00\x00storage" + FLOAT_STORAGE + b"]K\x00K\x01tQ.", id="a key that is no text"),
        pytest.param(b"\x82\x01.", id="an extension code"),
        pytest.param(b"Nr\xff\xff\xff\x7f.", id="a place in the memo that takes gigabytes"),
        pytest.param(b"Np2000000000\n.", id="such a place in digits"),
        pytest.param(b"\x96\x00\x00\x00\x00\x08\x00\x00\x00.", id="a length that takes gigabytes"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_odd_pickles_are_refused(tmp_path: pathlib.Path, pickled: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    with pytest.raises(CheckpointError, match=r"file: cannot be read; it is damaged or no file of torch\.save"):
        torch_tensors(tmp_path / "file")


def test_attributes_of_the_mapping_change_nothing(tmp_path: pathlib.Path) -> None:
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("archive/data.pkl", b"ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x05sb.")
    assert torch_tensors(tmp_path / "file") == {}


@FORMATS
@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param([1], "expected a mapping of names to tensors; found list", id="a list"),
        pytest.param(
            {"state_dict": state_dict(TENSORS)}, r"state_dict: expected a tensor; found a mapping", id="nested"
        ),
        pytest.param({"epoch": 3}, "epoch: expected a tensor; found int", id="a number"),
        pytest.param({3: view(np.ones(3))}, "expected names of tensors; found 3", id="no name"),
        pytest.param({"w": View(TEN, 0, (11,), (1,))}, "w: needs 11 elements of its storage, which has 10", id="long"),
        pytest.param({"w": View(TEN, 1, (2, 5), (5, 1))}, "w: needs 11 elements", id="offset too large"),
        pytest.param({"w": View(TEN, 0, (2, 2), (9, 1))}, "w: needs 11 elements", id="stride too large"),
        pytest.param({"w": View(TEN, -1, (2,), (1,))}, "w: its shape, strides and place are no natural", id="before"),
        pytest.param({"w": View(TEN, 0, (2,), (-1,))}, "w: its shape, strides and place", id="negative stride"),
        pytest.param({"w": View(TEN, 0, ("2",), (1,))}, "w: its shape, strides and place", id="no number"),
        pytest.param({"w": View(TEN, 0, 2, 1)}, "w: its shape, strides and place", id="no tuple"),
        pytest.param({"w": View(TEN, 0, (2, 1), (1,))}, "w: has 2 dimensions and 1 strides", id="a stride is missing"),
        pytest.param(
            {"w": View(Storage(TEN.values, count=11), 0, (11,), (1,))}, "w: needs 11 elements", id="count too large"
        ),
        pytest.param(
            {"w": View(Storage(TEN.values, "ComplexFloatStorage"), 0, (1,), (1,))},
            "names torch.ComplexFloatStorage",
            id="unknown storage",
        ),
    ],
)
def test_impossible_tensors_are_refused(tmp_path: pathlib.Path, write: Write, value: object, message: str) -> None:
    write(tmp_path / "file", value)
    with pytest.raises(CheckpointError, match=f"file: {message}"):
        torch_tensors(tmp_path / "file")


@FORMATS
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_truncated_files_are_named(tmp_path: pathlib.Path, write: Write, share: float) -> None:
    path = tmp_path / "pytorch_model.bin"
    write(path, state_dict({"weight": np.ones([20, 20], np.float32), "bias": np.ones(20, np.float32)}))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: .*(damaged)"):
        torch_tensors(path)


def test_flipped_bits_of_a_zip_are_noticed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, state_dict({"weight": np.full(100, 7, np.uint8)}))
    path.write_bytes(path.read_bytes().replace(bytes([7] * 100), bytes([7] * 99 + [6])))
    tensor = torch_tensors(path)["weight"]
    with pytest.raises(
        CheckpointError, match=r"pytorch_model\.bin: the storage '0' cannot be read; the file is damaged"
    ):
        tensor.read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "damaged or no file of torch.save", id="pointer"),
        pytest.param(pickle.dumps({"w": 1}, protocol=2), "is in no known format of torch.save", id="another pickle"),
        pytest.param(b"", "damaged or no file of torch.save", id="empty"),
    ],
)
def test_other_files_are_refused(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"file: .*{message}"):
        torch_tensors(tmp_path / "file")


def test_other_archives_are_refused(tmp_path: pathlib.Path) -> None:
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("weights.npy", b"")
    with pytest.raises(CheckpointError, match=r"expected a zip of torch.save with one data\.pkl; it has 0"):
        torch_tensors(tmp_path / "file")


def test_an_absent_file_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="absent: cannot be read: No such file"):
        torch_tensors(tmp_path / "absent")


def test_other_byte_orders_and_versions_are_refused(tmp_path: pathlib.Path) -> None:
    write_zip(tmp_path / "zip", state_dict(TENSORS), byte_order=b"big")
    write_legacy(tmp_path / "legacy", state_dict(TENSORS), little_endian=False)
    for name in ("zip", "legacy"):
        with pytest.raises(CheckpointError, match=f"{name}: .* with the high byte first"):
            torch_tensors(tmp_path / name)
    write_legacy(tmp_path / "newer", state_dict(TENSORS), protocol=1002)
    with pytest.raises(CheckpointError, match="newer: is in no known format"):
        torch_tensors(tmp_path / "newer")
