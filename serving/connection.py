"""What both clients share besides messages: how to connect, how long to wait and when to try again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from components.settings import check
from serving.messages import GET_MODEL_METADATA, GET_MODEL_STATUS, PREDICT
from serving.protocol import fusion_ner_protocol_pb2 as protocol


@dataclass(frozen=True)
class Tls:
    """PEM files of a TLS connection; with `client_key` and `client_certificate` the client shows itself too.

    Without `root_certificates`, gRPC's own list of authorities is trusted.
    """

    root_certificates: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None

    def __post_init__(self) -> None:
        check(
            (self.client_key is None) == (self.client_certificate is None),
            "tls",
            "client_key and client_certificate together, or neither",
            self,
        )

    def credentials(self) -> Any:
        """Returns gRPC channel credentials; raises FileNotFoundError for a PEM file that is not there."""

        def read(path: Path | None) -> bytes | None:
            return None if path is None else Path(path).read_bytes()

        return grpc.ssl_channel_credentials(
            read(self.root_certificates), read(self.client_key), read(self.client_certificate)
        )


@dataclass(frozen=True)
class ConnectionSettings:
    """How a client sends; the same for the sync and the asyncio client.

    Attributes:
        timeout: seconds that one request may take, its retries included.
        max_texts: most texts of one request.
        max_characters: most characters of one request; a longer text goes alone. Bounds the server's memory per
            request, and keeps requests and responses far below the sizes at which proxies and servers refuse.
        concurrency: most requests under way at once.
    """

    timeout: float = 30.0
    max_texts: int = 64
    max_characters: int = 20_000
    concurrency: int = 4

    def __post_init__(self) -> None:
        check(self.timeout > 0, "timeout", "a positive number of seconds", self.timeout)
        check(self.max_texts > 0, "max_texts", "a positive number", self.max_texts)
        check(self.max_characters > 0, "max_characters", "a positive number", self.max_characters)
        check(self.concurrency > 0, "concurrency", "a positive number", self.concurrency)


CHANNEL_OPTIONS = (
    # gRPC's own limit of 4 MiB would refuse the answer to a long text that is full of entities.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # After a restart of the server gRPC would wait up to two minutes before it tries to connect again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Retries are ours: one policy, bounded by the deadline.
    ("grpc.enable_retries", 0),
)


def backoff_delays() -> Iterator[float]:
    """Yields the seconds to wait before each retry: 0.05 doubling to 1, each times a random factor of 0.5 to 1.

    The random factor keeps clients of a restarted server from coming back all at the same moment.
    """
    delay = 0.05
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, 1.0)


def methods_of(channel: Any) -> dict[str, Callable[..., Any]]:
    """Returns the methods that the clients call, by their paths, of a channel of `grpc` or of `grpc.aio`."""
    response_types = {
        PREDICT: protocol.PredictResponse,
        GET_MODEL_METADATA: protocol.GetModelMetadataResponse,
        GET_MODEL_STATUS: protocol.GetModelStatusResponse,
    }
    return {
        path: channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response_type.FromString,
        )
        for path, response_type in response_types.items()
    }
