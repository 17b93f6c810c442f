"""REST predict requests and answers: JSON to arrays and back, in the row and the column format.

Row: `{"instances": [element, ...]}` gives `{"predictions": [element, ...]}`. Column: `{"inputs": ...}` gives
`{"outputs": ...}`. Messages, and the layout of the answers, are TensorFlow Serving's.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2

from serving.embedded.json_values import JsonError, decimal, parse, pretty, string, type_name
from serving.embedded.status import StatusError
from serving.embedded.tensors import MOST_AXES, dtype_name

_INT32 = (-(2**31), 2**31 - 1)
# dtype -> (NumPy type, range that a whole number must be in); 8 and 16 bit integers are checked as int32, then wrap.
_INTEGERS = {
    types_pb2.DT_INT32: (np.int32, _INT32),
    types_pb2.DT_INT16: (np.int16, _INT32),
    types_pb2.DT_INT8: (np.int8, _INT32),
    types_pb2.DT_UINT8: (np.uint8, _INT32),
    types_pb2.DT_INT64: (np.int64, (-(2**63), 2**63 - 1)),
    types_pb2.DT_UINT32: (np.uint32, (0, 2**32 - 1)),
    types_pb2.DT_UINT64: (np.uint64, (0, 2**64 - 1)),
}
_FLOATS = {types_pb2.DT_FLOAT: np.float32, types_pb2.DT_DOUBLE: np.float64}


@dataclass(frozen=True)
class JsonRequest:
    """A predict request: the signature's name as sent ("" for the default), its inputs, and the answer's format."""

    signature_name: str
    inputs: Mapping[str, np.ndarray]
    row_format: bool


def request_from_json(data: bytes, input_types: Callable[[str], Mapping[str, int]]) -> JsonRequest:
    """Reads the body of a predict request.

    Args:
        data: the body.
        input_types: gives the data types of a signature's inputs by name; raises StatusError if there is none.

    Raises:
        StatusError: the body cannot be read, or does not fit the signature.
    """
    try:
        document = parse(data)
    except JsonError as error:
        raise StatusError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise _format_error(document, "Is not object")
    name = document.get(b"signature_name", b"")
    if not isinstance(name, bytes):
        raise StatusError(
            "INVALID_ARGUMENT",
            f"JSON Value: {_text(document)} not formatted correctly. 'signature_name' key must be a string value.",
        )
    signature_name = name.decode("utf-8", "surrogateescape")
    types = input_types(signature_name)
    if b"instances" in document and b"inputs" in document:
        raise _format_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if b"instances" in document:
        instances = document[b"instances"]
        if not isinstance(instances, list):
            raise _format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise _format_error(document, "No values in 'instances' array")
        return JsonRequest(signature_name, _row_inputs(instances, types), row_format=True)
    if b"inputs" in document:
        return JsonRequest(signature_name, _column_inputs(document[b"inputs"], types), row_format=False)
    raise StatusError("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")


def response_to_json(outputs: Mapping[str, tuple[np.ndarray, int]], *, row_format: bool) -> bytes:
    """Writes outputs (name -> values and data type) as the body of a predict answer.

    Raises:
        StatusError: a type that JSON cannot carry, or outputs without one common number of rows in the row format.
    """
    tensors = {name: _Written(name, np.asarray(value), dtype) for name, (value, dtype) in outputs.items()}
    return _row_json(tensors) if row_format else _column_json(tensors)


def _row_inputs(instances: list[Any], types: Mapping[str, int]) -> dict[str, np.ndarray]:
    if not isinstance(instances[0], dict) and len(types) > 1:
        raise StatusError(
            "INVALID_ARGUMENT",
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        )
    named = _is_named(instances[0])
    columns: dict[str, _Column] = {name: _Column(dtype) for name, dtype in types.items()}
    only_name = next(iter(types))
    for position, element in enumerate(instances):
        if named != _is_named(element):
            expected, received = ("object", "list") if named else ("value/list", "object")
            raise StatusError(
                "INVALID_ARGUMENT", f"Expecting {expected} but got {received} at item {position} of input list"
            )
        items = {key.decode("utf-8", "surrogateescape"): item for key, item in element.items()} if named else None
        for name, item in (items or {only_name: element}).items():
            try:
                if name not in columns:
                    raise StatusError("INVALID_ARGUMENT", f"JSON object: does not have named input: {name}")
                columns[name].add(item)
            except StatusError as error:
                key = f" key: {name}" if named else ""
                raise StatusError(
                    "INVALID_ARGUMENT",
                    f"Failed to process element: {position}{key} of 'instances' list. Error: {error}",
                ) from error
        if items is not None and set(items) != set(types):
            raise StatusError(
                "INVALID_ARGUMENT",
                f"Failed to process element: {position} of 'instances' list. JSON object: {_text(element)} "
                f"keys must be equal to: {','.join(sorted(types))}",
            )
    return {name: column.array((len(instances),)) for name, column in columns.items()}


def _column_inputs(value: Any, types: Mapping[str, int]) -> dict[str, np.ndarray]:
    if not _is_named(value):
        if len(types) > 1:
            raise StatusError(
                "INVALID_ARGUMENT",
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map",
            )
        value = {name.encode(): value for name in types}
    arrays = {}
    for name, dtype in types.items():
        if name.encode() not in value:
            raise StatusError("INVALID_ARGUMENT", f"Missing named input: {name} in 'inputs' object.")
        column = _Column(dtype)
        column.add(value[name.encode()])
        arrays[name] = column.array(())
    return arrays


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(b"b64"), bytes)


class _Column:
    """Collects the elements of one input, which must all have the same shape."""

    def __init__(self, dtype: int) -> None:
        self._dtype = dtype
        self._values: list[Any] = []
        self._shape: tuple[int, ...] | None = None

    def add(self, item: Any) -> None:
        shape = _shape(item)
        before = len(self._values)
        self._fill(item, 0, shape)
        size = len(self._values) - before
        if self._shape is None:
            self._shape = shape
            return
        expected_size = int(np.prod(self._shape, dtype=np.int64))
        if size != expected_size:
            raise StatusError("INVALID_ARGUMENT", f"Expecting tensor size: {expected_size} but got: {size}")
        if shape != self._shape:
            raise StatusError(
                "INVALID_ARGUMENT", f"Expecting shape {_shape_text(self._shape)} but got: {_shape_text(shape)}"
            )

    def array(self, leading: tuple[int, ...]) -> np.ndarray:
        shape = leading + (self._shape or ())
        if len(shape) > MOST_AXES:
            raise StatusError("INVALID_ARGUMENT", f"Expecting at most {MOST_AXES} dimensions but got: {len(shape)}")
        if self._dtype == types_pb2.DT_STRING:
            array = np.empty(len(self._values), np.object_)
            array[:] = self._values
        elif self._dtype in _INTEGERS:
            # Through Python integers of 64 bits: small types wrap around, as in C++.
            wide = np.uint64 if self._dtype == types_pb2.DT_UINT64 else np.int64
            array = np.array(self._values, wide).astype(_INTEGERS[self._dtype][0])
        elif self._dtype == types_pb2.DT_BOOL:
            array = np.array(self._values, np.bool_)
        else:
            with np.errstate(over="ignore"):
                array = np.array(self._values, np.float64).astype(_FLOATS[self._dtype])
        return array.reshape(shape)

    def _fill(self, value: Any, level: int, shape: tuple[int, ...]) -> None:
        if not isinstance(value, list):
            if level != len(shape):
                raise StatusError(
                    "INVALID_ARGUMENT",
                    f"JSON Value: {_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {len(shape)}",
                )
            self._values.append(_scalar(value, self._dtype))
            return
        if level >= len(shape):
            raise StatusError(
                "INVALID_ARGUMENT", f"Encountered list at unexpected level: {level} expected < {len(shape)}"
            )
        if len(value) != shape[level]:
            raise StatusError(
                "INVALID_ARGUMENT",
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}",
            )
        for item in value:
            self._fill(item, level + 1, shape)


def _shape(value: Any) -> tuple[int, ...]:
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _shape_text(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _scalar(value: Any, dtype: int) -> Any:
    if dtype == types_pb2.DT_STRING:
        if isinstance(value, bytes):
            return value
        if isinstance(value, dict):
            return _base64_bytes(value)
    elif dtype in _INTEGERS:
        lowest, highest = _INTEGERS[dtype][1]
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
    elif dtype == types_pb2.DT_BOOL:
        if isinstance(value, bool):
            return value
    elif dtype in _FLOATS:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    else:
        raise StatusError("UNIMPLEMENTED", f"Conversion of JSON Value: {_text(value)} to type: {dtype_name(dtype)}")
    raise StatusError(
        "INVALID_ARGUMENT",
        f"JSON Value: {_text(value)} Type: {type_name(value)} is not of expected type: {dtype_name(dtype)}",
    )


def _base64_bytes(value: dict[bytes, Any]) -> bytes:
    if not _is_base64(value):
        raise StatusError("INVALID_ARGUMENT", f"JSON Value: {_text(value)} not formatted correctly for base64 data")
    digits = re.sub(rb"[ \t\n\r\f\v]", b"", value[b"b64"]).rstrip(b"=.")
    if not re.fullmatch(rb"[A-Za-z0-9+/]*", digits) or len(digits) % 4 == 1:
        raise StatusError("INVALID_ARGUMENT", "Unable to base64 decode")
    return base64.b64decode(digits + b"=" * (-len(digits) % 4))


def _text(value: Any) -> str:
    return pretty(value).decode("utf-8", "surrogateescape")


def _format_error(value: Any, reason: str) -> StatusError:
    return StatusError("INVALID_ARGUMENT", f"JSON Value: {_text(value)} {reason}")


class _Written:
    """The values of one output as JSON tokens, in the order of the array."""

    def __init__(self, name: str, array: np.ndarray, dtype: int) -> None:
        self.name = name
        self.shape = array.shape
        self._is_base64 = dtype == types_pb2.DT_STRING and name.endswith("_bytes")
        self._tokens = self._write(array.reshape(-1).tolist(), dtype)

    def _write(self, values: list[Any], dtype: int) -> list[bytes]:
        if self._is_base64:
            return [base64.b64encode(value) for value in values]
        if dtype == types_pb2.DT_STRING:
            return [string(value) for value in values]
        if dtype in _INTEGERS:
            return [b"%d" % value for value in values]
        if dtype == types_pb2.DT_BOOL:
            return [b"true" if value else b"false" for value in values]
        if dtype in _FLOATS:
            return [decimal(value, double=dtype == types_pb2.DT_DOUBLE) for value in values]
        raise StatusError("INVALID_ARGUMENT", f"Failed to write JSON value for tensor type: {dtype_name(dtype)}")

    def json(self, level: int, *, one_line: bool, row: int | None = None) -> bytes:
        """The whole tensor, or one row of it, as it stands at `level` of the document."""
        if row is None:
            return self._nested(self.shape, 0, level, one_line)
        inner = self.shape[1:]
        return self._nested(inner, row * int(np.prod(inner, dtype=np.int64)), level, one_line)

    def _nested(self, shape: tuple[int, ...], offset: int, level: int, one_line: bool) -> bytes:
        if not shape:
            token = self._tokens[offset]
            if not self._is_base64:
                return token
            return b'{\n%s"b64": "%s"\n%s}' % (b"    " * (level + 1), token, b"    " * level)
        if shape[0] == 0:
            return b"[]"
        size = int(np.prod(shape[1:], dtype=np.int64))
        items = [self._nested(shape[1:], offset + i * size, level + 1, one_line) for i in range(shape[0])]
        if one_line:
            return b"[" + b", ".join(items) + b"]"
        inner, outer = b"\n" + b"    " * (level + 1), b"\n" + b"    " * level
        return b"[" + inner + (b"," + inner).join(items) + outer + b"]"


def _row_json(tensors: Mapping[str, _Written]) -> bytes:
    rows: int | None = None
    for tensor in tensors.values():
        if not tensor.shape:
            raise StatusError("INVALID_ARGUMENT", f"Tensor name: {tensor.name} has no shape information ")
        if rows is not None and tensor.shape[0] != rows:
            raise StatusError(
                "INVALID_ARGUMENT",
                f"Tensor name: {tensor.name} has inconsistent batch size: {tensor.shape[0]} expecting: {rows}",
            )
        rows = tensor.shape[0]
    if len(tensors) == 1:
        (only,) = tensors.values()
        body = b", ".join(only.json(2, one_line=True, row=row) for row in range(rows or 0))
        return b'{\n    "predictions": [' + body + b"\n    ]\n}"
    objects = []
    for row in range(rows or 0):
        members = [
            b"            " + string(tensor.name.encode()) + b": " + tensor.json(3, one_line=True, row=row)
            for tensor in tensors.values()
        ]
        objects.append(b"\n        {\n" + b",\n".join(members) + b"\n        }")
    return b'{\n    "predictions": [' + b",".join(objects) + b"\n    ]\n}"


def _column_json(tensors: Mapping[str, _Written]) -> bytes:
    if len(tensors) == 1:
        (only,) = tensors.values()
        return b'{\n    "outputs": ' + only.json(1, one_line=False) + b"\n}"
    members = [
        b"        " + string(tensor.name.encode()) + b": " + tensor.json(2, one_line=False)
        for tensor in tensors.values()
    ]
    return b'{\n    "outputs": {\n' + b",\n".join(members) + b"\n    }\n}"
