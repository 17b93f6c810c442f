"""Clients that keep a server busy, in a process of their own: what the benchmarks of serving start.

    python -m bench.load_client --target localhost:8500 --model-name ner --texts texts.txt --clients 16 --seconds 10

Each client sends one text, waits for the answer and sends the next. Prints one JSON object. Imports no TensorFlow.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from serving import async_client
from serving.client import AsyncClient, ServingError


@dataclass
class Record:
    """What happened: (start by the monotonic clock, seconds) of each request that was answered, and failures."""

    requests: list[tuple[float, float]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    retries: int = 0


def main() -> int:
    """Runs the clients and prints the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", choices=("grpc", "http"), default="grpc")
    parser.add_argument("--target", required=True, help="HOST:PORT")
    parser.add_argument("--model-name", default="ner")
    parser.add_argument("--texts", type=Path, required=True, help="a JSON list of texts")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, help="how long; by default until standard input ends")
    parser.add_argument("--requests", type=int, help="how many requests in all, in place of a time")
    parser.add_argument("--per-second", type=float, help="requests a second; by default as fast as can be")
    arguments = parser.parse_args()
    texts = json.loads(arguments.texts.read_text(encoding="utf-8"))
    random.Random(1).shuffle(texts)
    queue: Iterator[str] = itertools.cycle(texts)
    if arguments.requests is not None:
        queue = itertools.islice(queue, arguments.requests)
    record = Record()
    end = float("inf") if arguments.seconds is None else time.monotonic() + arguments.seconds
    asyncio.run(_run_many(arguments, queue, end, record))
    print(json.dumps({"requests": record.requests, "failures": record.failures, "retries": record.retries}))
    return 0


async def _run_many(arguments: argparse.Namespace, queue: Iterator[str], end: float, record: Record) -> None:
    stopping = asyncio.Event()
    if end == float("inf") and arguments.requests is None:
        asyncio.get_running_loop().add_reader(sys.stdin, stopping.set)
    interval = 1 / arguments.per_second if arguments.per_second else 0.0
    next_start = time.monotonic()

    async def work(send: Callable[[str], Awaitable[None]]) -> None:
        nonlocal next_start
        for text in queue:
            if interval:
                # One clock for all clients; who falls behind catches up at once, so that slowness is not hidden.
                start, next_start = next_start, next_start + interval
                await asyncio.sleep(max(start - time.monotonic(), 0))
            else:
                start = time.monotonic()
            if stopping.is_set() or start >= end:
                return
            try:
                await send(text)
                record.requests.append((start, time.monotonic() - start))
            except (ServingError, OSError, asyncio.IncompleteReadError) as error:
                record.failures[type(error).__name__] += 1

    if arguments.protocol == "http":
        host, _, port = arguments.target.rpartition(":")
        connections = [HttpConnection(host, int(port)) for _ in range(arguments.clients)]
        await asyncio.gather(*(work(connection.tag) for connection in connections))
        return
    _count_retries(record)
    async with AsyncClient(arguments.target, model_name=arguments.model_name) as client:

        async def tag(text: str) -> None:
            await client.tag([text])

        await asyncio.gather(*(work(tag) for _ in range(arguments.clients)))


def _count_retries(record: Record) -> None:
    """Counts each UNAVAILABLE that the client meets and survives: it asks for one more delay after each."""
    backoff_delays = async_client.backoff_delays

    def counting() -> Iterator[float]:
        for attempt, delay in enumerate(backoff_delays()):
            record.retries += attempt > 0
            yield delay

    async_client.backoff_delays = counting


class HttpConnection:
    """The least that HTTP/1.1 needs, so that the peer is not charged for a slow client."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def tag(self, text: str) -> None:
        """Sends one text and reads the answer; raises OSError if it is not 200."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        body = json.dumps({"text": text}).encode()
        writer.write(
            b"POST /tag HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        json.loads(await reader.readexactly(length))
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise OSError(head.decode("latin-1"))


if __name__ == "__main__":
    sys.exit(main())
