"""Writes files as PyTorch's `torch.save` does, without PyTorch: the same pickle opcodes and the same layout."""

from __future__ import annotations

import collections
import dataclasses
import io
import pathlib
import pickle
import struct
import sys
import types
import unittest.mock
import zipfile
from collections.abc import Mapping

import ml_dtypes
import numpy as np

STORAGE_TYPES = {
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.int32): "IntStorage",
    np.dtype(np.int16): "ShortStorage",
    np.dtype(np.int8): "CharStorage",
    np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage",
}


@dataclasses.dataclass(eq=False)
class Storage:
    """The elements below one tensor or several; `count` is what the pickle says of their number."""

    values: np.ndarray
    type_name: str = ""
    count: int | None = None
    part: tuple[int, int] | None = None


@dataclasses.dataclass(eq=False)
class View:
    """A tensor; `rebuild` is the function of `torch._utils` that makes it."""

    storage: Storage
    offset: object
    shape: object
    strides: object
    rebuild: str = "_rebuild_tensor_v2"


@dataclasses.dataclass(eq=False)
class Parameter:
    data: View


def view(values: np.ndarray) -> View:
    """Returns a tensor that fills its storage."""
    strides = tuple(stride // values.itemsize for stride in np.asarray(values, order="C").strides)
    return View(Storage(values.reshape(-1)), 0, values.shape, strides)


def state_dict(tensors: Mapping[str, np.ndarray]) -> collections.OrderedDict[str, View]:
    """Returns tensors as a module's `state_dict()`, which carries an attribute."""
    value = collections.OrderedDict((name, view(values)) for name, values in tensors.items())
    value._metadata = collections.OrderedDict({"": {"version": 1}})
    return value


def write_zip(
    path: pathlib.Path, value: object, *, byte_order: bytes | None = b"little", root: str = "archive"
) -> None:
    """Writes the format of torch 1.6 and later."""
    pickled, storages = _pickled(value, legacy=False)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickled)
        if byte_order is not None:
            archive.writestr(f"{root}/byteorder", byte_order)
        for key, storage in storages.items():
            archive.writestr(f"{root}/data/{key}", storage.values.tobytes())
        archive.writestr(f"{root}/version", b"3\n")


def write_legacy(path: pathlib.Path, value: object, *, little_endian: bool = True, protocol: int = 1001) -> None:
    """Writes the format before torch 1.6."""
    pickled, storages = _pickled(value, legacy=True)
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": protocol, "little_endian": little_endian, "type_sizes": sizes}
    head = [pickle.dumps(each, protocol=2) for each in (0x1950A86A20F9469CFC6C, protocol, system)]
    keys = sorted(storages)
    values = [struct.pack("<q", storages[key].values.size) + storages[key].values.tobytes() for key in keys]
    path.write_bytes(b"".join([*head, pickled, pickle.dumps(keys, protocol=2), *values]))


def _pickled(value: object, *, legacy: bool) -> tuple[bytes, dict[str, Storage]]:
    file = io.BytesIO()
    with unittest.mock.patch.dict(sys.modules, _FAKE_TORCH):
        pickler = _Pickler(file, legacy=legacy)
        pickler.dump(value)
    return file.getvalue(), {key: storage for storage, key in pickler.keys.items()}


def _fake_torch() -> dict[str, types.ModuleType]:
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in (*STORAGE_TYPES.values(), "ComplexFloatStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *arguments: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    return {"torch": torch, "torch._utils": utils}


_FAKE_TORCH = _fake_torch()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, *, legacy: bool) -> None:
        super().__init__(file, protocol=2)
        self._legacy = legacy
        self.keys: dict[Storage, str] = {}

    def persistent_id(self, value: object) -> tuple[object, ...] | None:
        if not isinstance(value, Storage):
            return None
        key = self.keys.setdefault(value, str(len(self.keys)))
        name = value.type_name or STORAGE_TYPES[value.values.dtype]
        count = value.values.size if value.count is None else value.count
        identity = ("storage", getattr(_FAKE_TORCH["torch"], name), key, "cpu", count)
        if not self._legacy:
            return identity
        return (*identity, None if value.part is None else (f"{key} view", *value.part))

    def reducer_override(self, value: object) -> object:
        if isinstance(value, View):
            arguments = (value.storage, value.offset, value.shape, value.strides)
            more = () if value.rebuild == "_rebuild_tensor" else (False, collections.OrderedDict())
            return getattr(_FAKE_TORCH["torch._utils"], value.rebuild), (*arguments, *more)
        if isinstance(value, Parameter):
            arguments = (value.data, True, collections.OrderedDict())
            return _FAKE_TORCH["torch._utils"]._rebuild_parameter, arguments
        return NotImplemented
