"""Shapes that NumPy cannot hold are the client's mistake, over gRPC and over REST."""

from __future__ import annotations

import json

import pytest
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.embedded.json_prediction import request_from_json
from serving.embedded.status import StatusError
from serving.embedded.tensors import MOST_AXES, TensorParsingError, array_from_proto


def nested(depth: int) -> bytes:
    value: object = "a"
    for _ in range(depth):
        value = [value]
    return json.dumps({"inputs": {"text": value}}).encode()


def with_axes(count: int) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[b"a"])
    for _ in range(count):
        proto.tensor_shape.dim.add(size=1)
    return proto


def test_tensor_of_as_many_axes_as_numpy_has() -> None:
    assert array_from_proto(with_axes(MOST_AXES)).ndim == MOST_AXES


def test_tensor_of_more_axes() -> None:
    with pytest.raises(TensorParsingError, match="33 dimensions"):
        array_from_proto(with_axes(MOST_AXES + 1))


@pytest.mark.parametrize("depth", [MOST_AXES + 1, 90])
def test_json_of_more_axes(depth: int) -> None:
    with pytest.raises(StatusError, match=f"at most {MOST_AXES} dimensions but got: {depth}"):
        request_from_json(nested(depth), lambda _: {"text": types_pb2.DT_STRING})
