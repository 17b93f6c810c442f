"""A model server without a model, for what real ones cannot be made to do on demand; it needs no TensorFlow."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from serving.messages import GET_MODEL_STATUS, PREDICT
from serving.protocol import fusion_ner_protocol_pb2 as protocol

_OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
_RUN = re.compile("[A-Z]+|[0-9]+")


@dataclass
class FakeServer:
    """Tags runs of capitals (CAP) and digits (NUM).

    Attributes:
        target: "host:port".
        failures: statuses to answer with before the first good answer, in order.
        delay: seconds each answer takes.
        extra_width: columns of padding beyond the widest row, as a server that merges requests has them.
        change: changes each PredictResponse before it is sent.
        requests: the PredictRequests received.
        version_errors: versions that did not load, with their messages.
    """

    target: str = ""
    failures: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    delay: float = 0.0
    extra_width: int = 0
    change: Callable[[Any], None] = lambda response: None
    requests: list[Any] = field(default_factory=list)
    version_errors: dict[int, bytes] = field(default_factory=dict)

    def predict(self, data: bytes, context: Any) -> bytes:
        request = protocol.PredictRequest.FromString(data)
        self.requests.append(request)
        time.sleep(self.delay)
        if self.failures:
            context.abort(*self.failures.pop(0))
        response = tagging_response([text.decode() for text in request.inputs["text"].string_val], self.extra_width)
        response.model_spec.CopyFrom(request.model_spec)
        response.model_spec.version.value = 7
        self.change(response)
        return response.SerializeToString()

    def status(self, data: bytes, context: Any) -> bytes:
        if self.failures:
            context.abort(*self.failures.pop(0))
        response = protocol.GetModelStatusResponse()
        response.model_version_status.add(version=7, state=protocol.ModelVersionStatus.AVAILABLE)
        for version, message in self.version_errors.items():
            status = protocol.StatusProto(error_code=3, error_message=message)
            response.model_version_status.add(version=version, state=protocol.ModelVersionStatus.END, status=status)
        return response.SerializeToString()


def tagging_response(texts: list[str], extra_width: int = 0) -> Any:
    """Returns the PredictResponse of the fake tagger for `texts`."""
    rows = [[(m.start(), m.end(), "CAP" if m[0].isalpha() else "NUM", m[0]) for m in _RUN.finditer(t)] for t in texts]
    width = max(map(len, rows), default=0) + extra_width
    padded = [row + [(-1, -1, "", "")] * (width - len(row)) for row in rows]
    cells = [cell for row in padded for cell in row]
    response = protocol.PredictResponse()

    def add(name: str, dtype: int, shape: tuple[int, ...], **values: Any) -> None:
        tensor = response.outputs[name]
        tensor.CopyFrom(protocol.TensorProto(dtype=dtype, **values))
        for length in shape:
            tensor.tensor_shape.dim.add(size=length)

    shape = (len(texts), width)
    add("entity_count", protocol.DT_INT32, (len(texts),), int_val=[len(row) for row in rows])
    add("entity_start", protocol.DT_INT32, shape, int_val=[cell[0] for cell in cells])
    add("entity_end", protocol.DT_INT32, shape, int_val=[cell[1] for cell in cells])
    add("entity_type", protocol.DT_STRING, shape, string_val=[cell[2].encode() for cell in cells])
    add("entity_text", protocol.DT_STRING, shape, string_val=[cell[3].encode() for cell in cells])
    add("entity_score", protocol.DT_FLOAT, shape, float_val=[0.5 if cell[2] else 0.0 for cell in cells])
    return response


@contextmanager
def run_fake_server(credentials: Any = None, port: int = 0) -> Iterator[FakeServer]:
    """Runs a FakeServer, over TLS if `credentials` are given."""
    fake = FakeServer()
    server = grpc.server(futures.ThreadPoolExecutor(8), options=_OPTIONS)
    behaviours = {PREDICT: fake.predict, GET_MODEL_STATUS: fake.status}

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            behaviour = behaviours.get(details.method)
            return behaviour and grpc.unary_unary_rpc_method_handler(behaviour)

    server.add_generic_rpc_handlers([Handler()])
    address = f"localhost:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    fake.target = f"localhost:{bound}"
    try:
        yield fake
    finally:
        server.stop(None)
