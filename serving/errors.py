"""What can go wrong between a client and a model server, as exceptions.

    ServingError
    ├── ServerUnavailable     nothing answered at the target until the deadline, retries included
    ├── DeadlineExceeded      a server is there, but its answer did not come in time
    ├── ServerOverloaded      the server refused for lack of room (queue full, out of memory)
    ├── ModelNotFound         the server has no such model, version or label
    ├── InvalidRequest        the request cannot be answered as it stands; sending it again will not help
    ├── ServerFailed          the server or its model failed at a request that looks right
    └── MalformedResponse     the answer breaks the contract of the tagger's signature

Each carries `code`, the gRPC status code by name, and `details`, the server's own words ("" where there are none).
"""

from __future__ import annotations

from typing import Any


class ServingError(Exception):
    """Base of everything this package's clients raise about a server; catch it to catch them all."""

    def __init__(self, message: str, *, code: str = "", details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class ServerUnavailable(ServingError):  # noqa: N818 -- named for what happened, as in the tree above
    """Raised when nothing answered at the target until the deadline."""


class DeadlineExceeded(ServingError):  # noqa: N818
    """Raised when a server that is there did not answer in time."""


class ServerOverloaded(ServingError):  # noqa: N818
    """Raised when the server refused for lack of room."""


class ModelNotFound(ServingError):  # noqa: N818
    """Raised when the server has no such model, version or label."""


class InvalidRequest(ServingError):  # noqa: N818
    """Raised when the request cannot be answered as it stands."""


class ServerFailed(ServingError):  # noqa: N818
    """Raised when the server or its model failed at a request that looks right."""


class MalformedResponse(ServingError):  # noqa: N818
    """Raised when the answer breaks the contract of the tagger's signature."""


# Both NOT_FOUND and INVALID_ARGUMENT have several meanings in TensorFlow Serving; its texts tell them apart.
_MODEL_MISSING = ("Servable not found for request", "Could not find any versions of model", "Could not find version")
_LABEL_UNKNOWN = "Unrecognized servable version label"

_BY_CODE: dict[str, type[ServingError]] = {
    "UNAVAILABLE": ServerUnavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "RESOURCE_EXHAUSTED": ServerOverloaded,
    "INVALID_ARGUMENT": InvalidRequest,
    "FAILED_PRECONDITION": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
}


def error_from_status(code: str, details: str, *, target: str, model: str) -> ServingError:
    """Returns the exception for a gRPC status that is not OK.

    Args:
        code: name of the status code, such as "NOT_FOUND".
        details: the server's message.
        target: "host:port", for the message.
        model: the model as the request named it, for the message.

    Example:
        >>> error_from_status("NOT_FOUND", "Servable not found for request: Latest(x)", target="h:1", model="x")
        ModelNotFound("h:1 does not serve x: Servable not found for request: Latest(x)")
    """
    known = {"code": code, "details": details}
    if (code == "NOT_FOUND" and details.startswith(_MODEL_MISSING)) or details.startswith(_LABEL_UNKNOWN):
        return ModelNotFound(f"{target} does not serve {model}: {details}", **known)
    if code == "UNAVAILABLE":
        return ServerUnavailable(f"no model server answers at {target}: {details}", **known)
    if code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"{target} did not answer for {model} within the deadline", **known)
    kind = _BY_CODE.get(code, ServerFailed)
    verb = "refused the request" if kind is not ServerFailed else "failed at the request"
    return kind(f"{target} {verb} for {model} ({code}): {details or 'no details'}", **known)


def status_of(error: Any) -> tuple[str, str]:
    """Returns (code name, details) of a `grpc.RpcError`, sync or asyncio."""
    return error.code().name, error.details() or ""
