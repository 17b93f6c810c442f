"""TensorProto to NumPy and back, by the rules of TensorFlow's C++ `Tensor::FromProto` and `AsProtoTensor`.

`tf.make_ndarray` and `tf.make_tensor_proto` differ: the first refuses surplus values, the second packs numbers into
`tensor_content`, which TensorFlow Serving never answers with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.python.framework import dtypes

# A shape without values is filled with zeros: a few bytes of request may ask for terabytes.
_LARGEST_FILLED_BYTES = 256 * 2**20

# NumPy's limit; TensorFlow's own is 254.
MOST_AXES = 32


@dataclass(frozen=True)
class _Form:
    numpy_type: Any
    typed_field: str
    bits: Any = None  # integer type under which the typed field carries the bits, for half and bfloat16


_FORMS = {
    types_pb2.DT_FLOAT: _Form(np.float32, "float_val"),
    types_pb2.DT_DOUBLE: _Form(np.float64, "double_val"),
    types_pb2.DT_INT32: _Form(np.int32, "int_val"),
    types_pb2.DT_UINT8: _Form(np.uint8, "int_val"),
    types_pb2.DT_INT16: _Form(np.int16, "int_val"),
    types_pb2.DT_UINT16: _Form(np.uint16, "int_val"),
    types_pb2.DT_INT8: _Form(np.int8, "int_val"),
    types_pb2.DT_STRING: _Form(np.object_, "string_val"),
    types_pb2.DT_INT64: _Form(np.int64, "int64_val"),
    types_pb2.DT_BOOL: _Form(np.bool_, "bool_val"),
    types_pb2.DT_UINT32: _Form(np.uint32, "uint32_val"),
    types_pb2.DT_UINT64: _Form(np.uint64, "uint64_val"),
    types_pb2.DT_HALF: _Form(np.float16, "half_val", np.uint16),
    types_pb2.DT_BFLOAT16: _Form(dtypes.bfloat16.as_numpy_dtype, "half_val", np.uint16),
}


# Elsewhere C++ and NumPy use the same names.
_CPP_NAMES = {"float16": "half", "float32": "float", "float64": "double"}


class TensorParsingError(ValueError):
    """Raised for a TensorProto that holds no tensor."""


def dtype_name(dtype: int) -> str:
    """Returns the name that TensorFlow's C++ messages use for a data type, such as "int32", "float" or "string"."""
    name = dtypes.as_dtype(dtype).name
    return _CPP_NAMES.get(name, name)


def array_from_proto(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Returns the array of `proto`.

    Values come from `tensor_content` if it is set, else from the typed field: with fewer values than the shape asks
    for the last is repeated (none: zeros or b""), surplus values are cut. Without shape or rank it is a scalar.

    Raises:
        TensorParsingError: unknown data type, negative dimension, more than 32 of them, impossible size, or
            `tensor_content` of another size.
    """
    form = _FORMS.get(proto.dtype)
    if form is None:
        raise TensorParsingError(f"data type number {proto.dtype}")
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank:
        shape = ()
    if len(shape) > MOST_AXES:
        raise TensorParsingError(f"{len(shape)} dimensions")
    size = 1
    for length in shape:
        if length < 0:
            raise TensorParsingError(f"negative dimension {length}")
        size *= length
    item_size = np.dtype(form.numpy_type).itemsize
    if proto.tensor_content:
        if form.numpy_type is np.object_ or len(proto.tensor_content) != size * item_size:
            raise TensorParsingError(f"{len(proto.tensor_content)} bytes of content for {size} values")
        return np.frombuffer(proto.tensor_content, form.numpy_type).reshape(shape)
    values = getattr(proto, form.typed_field)
    if size > len(values) and size * item_size > _LARGEST_FILLED_BYTES:
        raise TensorParsingError(f"{size} values to fill")
    if form.numpy_type is np.object_:
        padding = [values[-1] if values else b""] * (size - len(values))
        array = np.empty(size, np.object_)
        array[:] = [*values[:size], *padding]
        return array.reshape(shape)
    # Through int64 and a cast, since the typed fields are wider than small integers, which wrap around as in C++.
    source = np.array(values[:size], np.int64 if form.typed_field == "int_val" or form.bits else form.numpy_type)
    array = source.astype(form.bits or form.numpy_type).view(form.numpy_type)
    if len(array) < size:
        filled = np.zeros(size, form.numpy_type) if len(array) == 0 else np.full(size, array[-1], form.numpy_type)
        filled[: len(array)] = array
        array = filled
    return array.reshape(shape)


def write_array(value: Any, dtype: int, proto: tensor_pb2.TensorProto) -> None:
    """Writes `value`, an output of type `dtype`, into an empty `proto`, with its values in the typed field."""
    form = _FORMS.get(dtype)
    if form is None:
        raise TensorParsingError(f"data type number {dtype}")
    array = np.asarray(value, form.numpy_type)
    proto.dtype = dtype
    proto.tensor_shape.SetInParent()
    for length in array.shape:
        proto.tensor_shape.dim.add(size=length)
    flat = array.reshape(-1)
    getattr(proto, form.typed_field).extend((flat.view(form.bits) if form.bits else flat).tolist())
