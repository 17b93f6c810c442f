"""Tensors from files of PyTorch's `torch.save`, read without PyTorch: nothing in a file is ever executed.

A file is a pickle that describes tensors as views of storages, and the storages. Two formats are in use:

    zip, since torch 1.6:   NAME/data.pkl, NAME/byteorder, and NAME/data/KEY for each storage
    before:                 pickles of a magic number, the protocol's version, the system, the tensors and the keys of
                            the storages; then for each key an int64, the number of its elements, and their bytes

A pickle may call whatever it can name, so only the handful of names are known that tensors need.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import mmap
import pathlib
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy

from components.trainer.checkpoint_error import CheckpointError

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_STORAGE_TYPES = {
    "HalfStorage": numpy.dtype(numpy.float16),
    "BFloat16Storage": numpy.dtype(ml_dtypes.bfloat16),
    "FloatStorage": numpy.dtype(numpy.float32),
    "DoubleStorage": numpy.dtype(numpy.float64),
    "LongStorage": numpy.dtype(numpy.int64),
    "IntStorage": numpy.dtype(numpy.int32),
    "ShortStorage": numpy.dtype(numpy.int16),
    "CharStorage": numpy.dtype(numpy.int8),
    "ByteStorage": numpy.dtype(numpy.uint8),
    "BoolStorage": numpy.dtype(numpy.bool_),
}


@dataclasses.dataclass(frozen=True)
class TorchTensor:
    """A tensor of a file, whose values are read when they are asked for.

    Attributes:
        shape: its shape.
        dtype: the type of its elements.
        read: returns its values.
    """

    shape: tuple[int, ...]
    dtype: numpy.dtype
    read: Callable[[], numpy.ndarray]


def torch_tensors(path: pathlib.Path) -> dict[str, TorchTensor]:
    """Returns the tensors of a file that holds a mapping of names to tensors, as `state_dict()` is one.

    One storage is held in memory at a time, when a tensor of it is read.

    Raises:
        CheckpointError: the file is absent or damaged, names something that tensors do not need, or holds something
            else than tensors.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_ZIP_MAGIC))
        if not magic:
            raise CheckpointError(f"{path}: is empty; it is damaged or no file of torch.save")
        content = _read_zip(path) if magic == _ZIP_MAGIC else _read_legacy(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not isinstance(content.value, dict):
        raise CheckpointError(f"{path}: expected a mapping of names to tensors; found {type(content.value).__name__}")
    storage_reader = _StorageReader(path, content.read_storage)
    # Not `value.items()`: a pickle can give an OrderedDict an attribute of this name.
    return {
        _name(path, name): _tensor(path, name, view, content, storage_reader)
        for name, view in dict.items(content.value)
    }


# What pickles build. These are tuples because a pickle can set the attributes of every object that has a `__dict__`.


class _StorageType(NamedTuple):
    name: str


class _Storage(NamedTuple):
    """Elements `first` to `first + count` of the storage `key`."""

    type: Any
    key: str
    first: Any
    count: Any


class _View(NamedTuple):
    storage: Any
    offset: Any
    shape: Any
    strides: Any


class _RebuildTensor(NamedTuple):
    """Stands for `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`, which has more arguments."""

    name: str

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> _View:
        return _View(storage, offset, shape, strides)


class _RebuildParameter(NamedTuple):
    """Stands for `torch._utils._rebuild_parameter`."""

    name: str

    def __call__(self, data: Any, *unused: Any) -> Any:
        return data


_GLOBALS: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor("_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor("_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter("_rebuild_parameter"),
} | {("torch", name): _StorageType(name) for name in _STORAGE_TYPES}


class _Unpickler(pickle.Unpickler):
    """Knows the names that tensors need, and no others."""

    def __init__(self, file: io.BytesIO | mmap.mmap, path: pathlib.Path) -> None:
        # torch.load does so: pickles of Python 2 have their strings as bytes.
        super().__init__(file, encoding="utf-8")
        self._path = path
        self.storage_types: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> object:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise CheckpointError(
                f"{self._path}: names {module}.{name}, which no tensor of weights needs; nothing of it was run"
            ) from None

    def persistent_load(self, identity: Any) -> _Storage:
        kind, storage_type, key, _, count, *view = identity
        if kind != "storage" or not isinstance(key, str):
            raise pickle.UnpicklingError(f"an object of the unknown kind {kind!r}, {key!r}")
        self.storage_types.setdefault(key, storage_type)
        if view and view[0] is not None:
            # torch before 0.4 wrote storages that are parts of others.
            _, first, count = view[0]
            return _Storage(storage_type, key, first, count)
        return _Storage(storage_type, key, 0, count)


class _Unpickled(NamedTuple):
    value: Any
    storage_types: Mapping[str, Any]


def _unpickle(file: io.BytesIO | mmap.mmap, path: pathlib.Path) -> _Unpickled:
    """Reads the pickle at the position of `file`, neither of whose kinds allocates more than there is to read."""
    unpickler = _Unpickler(file, path)
    try:
        _check_sizes(file)
        return _Unpickled(unpickler.load(), unpickler.storage_types)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # Damaged pickles raise errors of any type.
        raise CheckpointError(
            f"{path}: cannot be read; it is damaged or no file of torch.save: {type(error).__name__}: {error}"
        ) from error


_MEMO_WRITES = ("PUT", "BINPUT", "LONG_BINPUT")


def _check_sizes(file: io.BytesIO | mmap.mmap) -> None:
    """Refuses a pickle that would take more memory than its own size justifies: the unpickler allocates first.

    `genops` compares lengths with what is there, but not places in the memo, each of which takes two bytes or more.
    """
    start = file.tell()
    for opcode, argument, place in pickletools.genops(file):  # type: ignore[arg-type]
        if opcode.name in _MEMO_WRITES and not 0 <= int(argument or 0) <= (place or 0):
            raise pickle.UnpicklingError(f"a memo of {argument} places in {place} bytes")
    file.seek(start)


class _Content(NamedTuple):
    """What a file holds.

    Attributes:
        value: the unpickled object.
        storage_sizes: number of bytes of each storage, by its key.
        read_storage: returns the bytes of a storage.
    """

    value: Any
    storage_sizes: Mapping[str, int]
    read_storage: Callable[[str], bytes]


def _read_zip(path: pathlib.Path) -> _Content:
    def read(name: str) -> bytes:
        # The archive's checksums are compared here.
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)

    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in sizes if name.rpartition("/")[2] == "data.pkl"]
        if len(roots) != 1:
            raise CheckpointError(f"{path}: expected a zip of torch.save with one data.pkl; it has {len(roots)}")
        (root,) = roots
        order = read(f"{root}byteorder") if f"{root}byteorder" in sizes else b"little"
        value = _unpickle(io.BytesIO(read(f"{root}data.pkl")), path).value
    except _ZIP_DAMAGES as error:
        raise CheckpointError(f"{path}: cannot be read; the file is damaged: {error}") from error
    _check_little_endian(path, order == b"little")
    prefix = f"{root}data/"
    storage_sizes = {name.removeprefix(prefix): size for name, size in sizes.items() if name.startswith(prefix)}
    return _Content(value, storage_sizes, lambda key: read(f"{prefix}{key}"))


# NotImplementedError: a compression that Python's zipfile lacks; RuntimeError: encryption.
_ZIP_DAMAGES = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error)


def _read_legacy(path: pathlib.Path) -> _Content:
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file:
        if _unpickle(file, path).value != _LEGACY_MAGIC or _unpickle(file, path).value != _LEGACY_PROTOCOL:
            raise CheckpointError(f"{path}: is in no known format of torch.save")
        system = _unpickle(file, path).value
        _check_little_endian(path, isinstance(system, dict) and system.get("little_endian") is True)
        value, types = _unpickle(file, path)
        keys = _unpickle(file, path).value
        places: dict[str, tuple[int, int]] = {}
        file_size = path.stat().st_size
        for key in keys if isinstance(keys, list) else []:
            header = file.read(8)
            if not isinstance(key, str) or key not in types or len(header) != 8:
                raise CheckpointError(f"{path}: the file is damaged: the storage {key!r} has no tensor or no values")
            size = struct.unpack("<q", header)[0] * _element_type(path, types[key]).itemsize
            start = file.tell()
            if not 0 <= size <= file_size - start:
                raise CheckpointError(f"{path}: the file is damaged: it ends within the storage {key!r}")
            places[key] = (start, size)
            file.seek(start + size)

    def read_storage(key: str) -> bytes:
        start, size = places[key]
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    return _Content(value, {key: size for key, (_, size) in places.items()}, read_storage)


def _check_little_endian(path: pathlib.Path, is_little: bool) -> None:
    if not is_little:
        raise CheckpointError(
            f"{path}: was written on a machine with the high byte first; save it again on a usual one"
        )


class _StorageReader:
    """Reads storages, and keeps the last: tensors that share one follow one another as a rule."""

    def __init__(self, path: pathlib.Path, read: Callable[[str], bytes]) -> None:
        self._path = path
        self._read = read
        self._last: tuple[str, bytes] | None = None

    def __call__(self, key: str) -> bytes:
        if self._last is None or self._last[0] != key:
            self._last = None
            try:
                self._last = (key, self._read(key))
            except (OSError, *_ZIP_DAMAGES) as error:
                raise CheckpointError(
                    f"{self._path}: the storage {key!r} cannot be read; the file is damaged: {error}"
                ) from error
        return self._last[1]


def _name(path: pathlib.Path, name: Any) -> str:
    if not isinstance(name, str):
        raise CheckpointError(f"{path}: expected names of tensors; found {name!r}")
    return name


def _tensor(path: pathlib.Path, name: str, view: Any, content: _Content, read_storage: _StorageReader) -> TorchTensor:
    """Checks what the pickle said of a tensor: it may say anything."""
    if not isinstance(view, _View) or not isinstance(view.storage, _Storage):
        raise CheckpointError(f"{path}: {name}: expected a tensor; found {_kind(view)}; save the state_dict() alone")
    storage = view.storage
    dtype = _element_type(path, storage.type)
    sizes_and_strides = (view.shape, view.strides)
    if not all(isinstance(numbers, tuple) and all(map(_is_count, numbers)) for numbers in sizes_and_strides) or not all(
        map(_is_count, (view.offset, storage.first, storage.count))
    ):
        raise CheckpointError(f"{path}: {name}: its shape, strides and place are no natural numbers")
    shape, strides = view.shape, view.strides
    if len(shape) != len(strides):
        raise CheckpointError(f"{path}: {name}: has {len(shape)} dimensions and {len(strides)} strides")
    if storage.key not in content.storage_sizes:
        raise CheckpointError(f"{path}: {name}: its storage {storage.key!r} is missing; the file is damaged")
    is_empty = 0 in shape
    last = -1 if is_empty else sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    available = min(storage.count, content.storage_sizes[storage.key] // dtype.itemsize - storage.first)
    if view.offset + last >= available:
        raise CheckpointError(
            f"{path}: {name}: needs {view.offset + last + 1} elements of its storage, which has {max(available, 0)}; "
            "the file is damaged"
        )
    first = (storage.first + view.offset) * dtype.itemsize

    def read() -> numpy.ndarray:
        if is_empty:
            return numpy.zeros(shape, dtype)
        # Not `numpy.frombuffer` of the whole: a storage may end within an element of this type.
        elements = numpy.frombuffer(read_storage(storage.key), dtype, last + 1, first)
        byte_strides = [stride * dtype.itemsize for stride in strides]
        return numpy.lib.stride_tricks.as_strided(elements, shape, byte_strides, writeable=False)

    return TorchTensor(shape, dtype, read)


def _element_type(path: pathlib.Path, storage_type: Any) -> numpy.dtype:
    if not isinstance(storage_type, _StorageType):
        raise CheckpointError(f"{path}: the file is damaged: a storage has the type {storage_type!r}")
    return _STORAGE_TYPES[storage_type.name]


def _is_count(number: Any) -> bool:
    return type(number) is int and number >= 0


def _kind(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else type(value).__name__
