"""The REST API of the embedded server as an ASGI application: predict, model status and metadata."""

from __future__ import annotations

import logging
import re
import socket
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

import anyio
import anyio.to_thread
import uvicorn
from google.protobuf import json_format
from starlette.requests import Request
from starlette.responses import Response
from tensorflow_serving.apis import get_model_metadata_pb2

from serving.embedded.json_prediction import request_from_json
from serving.embedded.json_values import string
from serving.embedded.manager import ModelManager
from serving.embedded.model_service import selected_states
from serving.embedded.prediction import model_metadata
from serving.embedded.status import StatusError
from serving.embedded.workers import deadline_after

logger = logging.getLogger(__name__)

_HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_WHICH = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
# Only the fixed words ignore case; the verb does not.
_PREDICT = re.compile(rf"(?i:/v1/models)/(?P<name>[^/:]+){_WHICH}:(?P<verb>classify|regress|predict)")
_MODEL = re.compile(rf"(?i:/v1/models)(?:/(?P<name>[^/:]+))?{_WHICH}(?P<metadata>/(?i:metadata))?")
# The first name belongs to protobuf 3.20; later versions, and the type stubs, have another.
_JSON_OPTIONS: Any = {"including_default_value_fields": True, "preserving_proto_field_name": True, "indent": 1}
_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
_LARGEST_VERSION = 2**63 - 1
# A gzip body of a few kilobytes could otherwise fill the memory.
_LARGEST_UNPACKED = 256 * 2**20


@dataclass(frozen=True)
class _Target:
    name: str
    version: int | None
    label: str | None


class RestApi:
    """ASGI application that answers as TensorFlow Serving's HTTP server.

    Args:
        manager: the models.
        timeout_ms: time limit of a prediction; 0 sets none.
        threads: predictions under way at once.
    """

    def __init__(self, manager: ModelManager, *, timeout_ms: int, threads: int) -> None:
        self._manager = manager
        self._timeout_ms = timeout_ms
        self._threads = threads
        self._limiter: anyio.CapacityLimiter | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one HTTP request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._threads)
        response = await anyio.to_thread.run_sync(self._answer, request, body, limiter=self._limiter)
        await response(scope, receive, send)

    def _answer(self, request: Request, body: bytes) -> Response:
        path = request.scope["raw_path"].decode("latin-1")
        if request.scope["query_string"]:
            path += "?" + request.scope["query_string"].decode("latin-1")
        try:
            return self._route(request, path, body)
        except StatusError as error:
            return _json_response(_error_body(error.message), _HTTP_STATUS.get(error.code, 500))
        except Exception as error:
            logger.exception("A request failed")
            return _json_response(_error_body(f"{type(error).__name__}: {error}"), 500)

    def _route(self, request: Request, path: str, body: bytes) -> Response:
        method = request.method
        if method not in _METHODS:
            return _html_response(501, "Not Implemented")
        if not path.lower().startswith("/v1/"):
            return _html_response(404, "Not Found", head=method == "HEAD")
        if method == "OPTIONS":
            allowed = re.match(r"https?://", request.headers.get("origin", ""))
            return Response(b"", 200 if allowed else 400, media_type="text/html; charset=ISO-8859-1")
        match = _PREDICT.fullmatch(path) if method == "POST" else None
        if match:
            target = _target(match)
            if target is None:
                return _json_response(b"", 400)
            return self._predict(target, match["verb"], _unpacked(request, body))
        match = _MODEL.fullmatch(path) if method == "GET" else None
        if match:
            if not match["name"]:
                raise StatusError("INVALID_ARGUMENT", "Missing model name in request.")
            target = _target(match)
            if target is None:
                return _json_response(b"", 400)
            return self._metadata(target) if match["metadata"] else self._status(target)
        if method == "HEAD":
            return _json_response(b"", 400)
        raise StatusError("INVALID_ARGUMENT", f"Malformed request: {method} {path}")

    def _predict(self, target: _Target, verb: str, body: bytes) -> Response:
        if verb != "predict":
            raise StatusError(
                "UNIMPLEMENTED", f"{verb} belongs to TensorFlow Serving; the embedded server answers predict"
            )

        deadline = deadline_after(self._timeout_ms / 1000 or None)
        try:
            with self._manager.acquire(target.name, _version(target)) as (number, worker):
                answer = worker.call("json", body, number, deadline)
        except StatusError as error:
            if error.code == "NOT_FOUND":
                # What is wrong with the body is told first.
                request_from_json(body, _raising(error))
            raise
        return _json_response(answer, 200)

    def _status(self, target: _Target) -> Response:
        # A label selects nothing here, known or not.
        states = selected_states(self._manager, target.name, target.version)
        versions = [
            b'  {\n   "version": "%d",\n   "state": "%s",\n   "status": {\n    "error_code": "%s",\n'
            b'    "error_message": %s\n   }\n  }'
            % (
                number,
                state.state.encode(),
                (state.error.code if state.error else "OK").encode(),
                string(_bytes(state.error.message if state.error else "")),
            )
            for number, state in states.items()
        ]
        return _json_response(b'{\n "model_version_status": [\n' + b",\n".join(versions) + b"\n ]\n}\n", 200)

    def _metadata(self, target: _Target) -> Response:
        with self._manager.acquire(target.name, _version(target)) as (number, worker):
            response = model_metadata(worker.signatures, target.name, number)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        text = json_format.MessageToJson(signatures, **_JSON_OPTIONS)
        name = string(target.name.encode())
        body = (
            b'{\n"model_spec":{\n "name": %s,\n "signature_name": "",\n "version": "%d"\n}\n,\n"metadata": '
            b'{"signature_def": %s\n}\n}\n' % (name, number, text.encode())
        )
        return _json_response(body, 200)


def serve_rest(api: RestApi, port: int) -> tuple[uvicorn.Server, threading.Thread]:
    """Serves `api` on `port` in a thread of its own; returns the server (set `should_exit` to stop it) and the thread.

    Raises:
        OSError: the port cannot be opened.
    """
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    server = uvicorn.Server(uvicorn.Config(api, log_config=None, access_log=False, server_header=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="rest", daemon=True)
    thread.start()
    return server, thread


def _target(match: re.Match[str]) -> _Target | None:
    """Returns what the path selects, None for a version that is no int64."""
    version = int(match["version"]) if match["version"] else None
    if version is not None and version > _LARGEST_VERSION:
        return None
    label = match["label"]
    return _Target(_decoded(match["name"]), version, None if label is None else _decoded(label))


def _raising(error: StatusError) -> Callable[[str], NoReturn]:
    def input_types(_: str) -> NoReturn:
        raise error

    return input_types


def _version(target: _Target) -> int | None:
    if target.label is not None:
        raise StatusError("INVALID_ARGUMENT", f"Unrecognized servable version label: {target.label}")
    return target.version


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode("utf-8", "surrogateescape")


def _unpacked(request: Request, body: bytes) -> bytes:
    # Only this very value counts; another encoding is read as it comes.
    if request.headers.get("content-encoding") != "gzip":
        return body
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(body, _LARGEST_UNPACKED)
    except zlib.error:
        return b""
    if unpacker.unconsumed_tail:
        raise StatusError("INVALID_ARGUMENT", f"The unpacked body is larger than {_LARGEST_UNPACKED} bytes")
    return unpacked


def _error_body(message: str) -> bytes:
    return b'{\n    "error": ' + string(_bytes(message)) + b"\n}"


def _bytes(message: str) -> bytes:
    return message.encode("utf-8", "surrogateescape")


def _json_response(body: bytes, status: int) -> Response:
    return Response(body, status, media_type="application/json")


def _html_response(status: int, phrase: str, *, head: bool = False) -> Response:
    body = (
        f"<HTML><HEAD>\n<TITLE>{status} {phrase}</TITLE>\n</HEAD><BODY>\n<H1>{phrase}</H1>\n</BODY></HTML>\n".encode()
    )
    headers = {"Content-Type": "text/html", "Connection": "close"}
    return Response(b"" if head else body, status, headers=headers)
