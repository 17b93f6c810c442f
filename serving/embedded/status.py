"""Status codes: the numbers of absl/gRPC, and the error that carries one to whoever answers."""

from __future__ import annotations

CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

# model_servers/grpc_status_util.cc: longer messages would not fit into an HTTP/2 header block of some clients.
_LONGEST_DETAILS = 1024


class StatusError(Exception):
    """An answer other than OK: `code` by name, `message` in TensorFlow Serving's words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def status_error_from_tensorflow(error: Exception) -> StatusError:
    """Returns the status of an exception that TensorFlow raised; what is no OpError counts as INTERNAL.

    Bytes of the message that are no UTF-8 stand in it as lone surrogates (`surrogateescape`).
    """
    if isinstance(error, UnicodeDecodeError):
        # TensorFlow cannot make a Python exception of a message that is no UTF-8. Such a message quotes the input.
        return StatusError("INVALID_ARGUMENT", error.object.decode("utf-8", "surrogateescape"))
    number = getattr(error, "error_code", None)
    if isinstance(number, int) and 0 < number < len(CODES):
        return StatusError(CODES[number], str(getattr(error, "message", error)))
    return StatusError("INTERNAL", f"{type(error).__name__}: {error}")


def grpc_details(message: str) -> str:
    """Returns `message` as it travels in a gRPC status: at most 1024 characters, marked where it was cut."""
    if any("\udc80" <= character <= "\udcff" for character in message):
        # gRPC's own libraries read details that are no UTF-8 as Latin-1; Python can only send what it can encode.
        message = message.encode("utf-8", "surrogateescape").decode("latin-1")
    return message if len(message) <= _LONGEST_DETAILS else message[:_LONGEST_DETAILS] + "...TRUNCATED"
