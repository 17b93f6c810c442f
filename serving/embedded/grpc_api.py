"""The gRPC services of the embedded server: PredictionService, ModelService and grpc.health.v1."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from serving.embedded.manager import ModelManager
from serving.embedded.model_service import model_status, reload_models
from serving.embedded.prediction import model_metadata
from serving.embedded.status import StatusError, grpc_details
from serving.embedded.workers import deadline_after

logger = logging.getLogger(__name__)

_PREDICTION_SERVICE = "/tensorflow.serving.PredictionService/"
_MODEL_SERVICE = "/tensorflow.serving.ModelService/"
_HEALTH_SERVICE = "/grpc.health.v1.Health/"
# The names under which TensorFlow Serving reports health; the full names of the services are unknown to it.
_HEALTHY = ("", "ModelService", "PredictionService")


@dataclass(frozen=True)
class _Method:
    request_type: Any
    answer: Callable[[Any, bytes, Any], bytes]


class ServingApi(grpc.GenericRpcHandler):
    """Answers every method of the server; unknown ones with UNIMPLEMENTED, as TensorFlow Serving does.

    Args:
        manager: the models.
        health: whether grpc.health.v1 is served.
    """

    def __init__(self, manager: ModelManager, *, health: bool) -> None:
        self._manager = manager
        self._methods = {
            _PREDICTION_SERVICE + "Predict": _Method(predict_pb2.PredictRequest, self._predict),
            _PREDICTION_SERVICE + "GetModelMetadata": _Method(
                get_model_metadata_pb2.GetModelMetadataRequest, self._get_model_metadata
            ),
            _MODEL_SERVICE + "GetModelStatus": _Method(
                get_model_status_pb2.GetModelStatusRequest,
                lambda request, *_: model_status(manager, request).SerializeToString(),
            ),
            _MODEL_SERVICE + "HandleReloadConfigRequest": _Method(
                model_management_pb2.ReloadConfigRequest,
                lambda request, *_: reload_models(manager, request).SerializeToString(),
            ),
        }
        # Classify, Regress and MultiInference need an Example-based signature; the tagger has none.
        self._belongs_to_serving = {
            _PREDICTION_SERVICE + name: f"{name} belongs to TensorFlow Serving; the embedded server answers Predict"
            for name in ("Classify", "Regress", "MultiInference")
        }
        self._health = health

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Returns the handler of a method; messages stay bytes here, so that unreadable ones can be answered."""
        path = handler_call_details.method
        method = self._methods.get(path)
        if method is not None:
            return grpc.unary_unary_rpc_method_handler(lambda data, context: _answer(method, data, context))
        if self._health and path == _HEALTH_SERVICE + "Check":
            return grpc.unary_unary_rpc_method_handler(_check_health)
        if self._health and path == _HEALTH_SERVICE + "Watch":
            return grpc.unary_stream_rpc_method_handler(_watch_health)
        details = self._belongs_to_serving.get(path, "")
        return grpc.stream_stream_rpc_method_handler(
            lambda _, context: _abort(context, StatusError("UNIMPLEMENTED", details))
        )

    def _predict(self, request: Any, data: bytes, context: Any) -> bytes:
        name, version = requested_model(request)
        deadline = deadline_after(context.time_remaining())
        with self._manager.acquire(name, version) as (number, worker):
            return worker.call("predict", data, number, deadline, context.add_callback)

    def _get_model_metadata(self, request: Any, *_: Any) -> bytes:
        _require_model_spec(request)
        if not request.metadata_field:
            raise StatusError("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
        for metadata_field in request.metadata_field:
            if metadata_field != "signature_def":
                raise StatusError("INVALID_ARGUMENT", f"Metadata field {metadata_field} is not supported")
        name, version = requested_model(request)
        with self._manager.acquire(name, version) as (number, worker):
            return bytes(model_metadata(worker.signatures, name, number).SerializeToString())


def requested_model(request: Any) -> tuple[str, int | None]:
    """Returns name and version (None: the newest) of a request's ModelSpec.

    Raises:
        StatusError: the spec or the name is missing, or it names a label.
    """
    _require_model_spec(request)
    spec = request.model_spec
    if not spec.name:
        raise StatusError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        raise StatusError("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")
    return spec.name, spec.version.value if choice == "version" else None


def _require_model_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise StatusError("INVALID_ARGUMENT", "Missing ModelSpec")


def _answer(method: _Method, data: bytes, context: Any) -> bytes:
    if not context.is_active():
        return b""  # the client gave up while the request waited for a thread
    try:
        request = method.request_type.FromString(data)
    except DecodeError:
        _abort(context, StatusError("INTERNAL", ""))
    try:
        return method.answer(request, data, context)
    except StatusError as error:
        _abort(context, error)
    except Exception as error:
        logger.exception("A request failed")
        _abort(context, StatusError("INTERNAL", f"{type(error).__name__}: {error}"))


def _abort(context: Any, error: StatusError) -> NoReturn:
    context.abort(getattr(grpc.StatusCode, error.code), grpc_details(error.message))
    raise AssertionError("abort always raises")


def _check_health(data: bytes, context: Any) -> bytes:
    try:
        request = health_pb2.HealthCheckRequest.FromString(data)
    except DecodeError:
        _abort(context, StatusError("INVALID_ARGUMENT", "could not parse request"))
    if request.service not in _HEALTHY:
        _abort(context, StatusError("NOT_FOUND", "service name unknown"))
    return _health_response(health_pb2.HealthCheckResponse.SERVING)


def _watch_health(data: bytes, context: Any, send: Callable[[bytes | None], None]) -> None:
    try:
        service = health_pb2.HealthCheckRequest.FromString(data).service
    except DecodeError:
        _abort(context, StatusError("INVALID_ARGUMENT", "could not parse request"))
    # The port opens when the models are loaded and closes with the process: the first state is the only one.
    known = service in _HEALTHY
    response_type = health_pb2.HealthCheckResponse
    send(_health_response(response_type.SERVING if known else response_type.SERVICE_UNKNOWN))


# A watcher lasts as long as its client; it must not hold one of the server's threads.
_watch_health.experimental_non_blocking = True  # type: ignore[attr-defined]


def _health_response(state: int) -> bytes:
    return health_pb2.HealthCheckResponse(status=state).SerializeToString()
