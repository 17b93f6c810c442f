"""Hostile requests, and memory over many small ones.

    python -m bench.serving_hostile --model output/serving/ner/1763950000 --requests 10000 --small-requests 100000

Starts the server that `fusion-ner serve` finds and sends it, over loopback only, requests drawn at random from a fixed
list of kinds, over gRPC and REST, with a bound on count and time. Prints how each kind was answered. The server must
live on and still answer as it did before. Then its memory is read while it answers small requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from bench.measuring import finish_load, machine, process_memory, process_tree, start_load, write_texts
from components import features
from components.pusher.publish import publish
from serving.client import Client
from serving.messages import PREDICT
from serving.model_server import ModelServer, embedded_server, find_model_server, free_port, start_model_server
from serving.protocol import fusion_ner_protocol_pb2 as protocol

PROBE = ["Ada Lovelace lived in London.", "", "\U0001f600 a\u0301 \u4f60\u597d"]
_SMALL = [f"{word} {number}" for number in range(50) for word in ("London", "a", "Ada")]
_DT_FLOAT, _DT_INT32, _DT_INT64 = 1, 3, 9
# Requests of these kinds take seconds of the model's time each; so few of them are sent.
_RARE = ("slow client", "1 MB of text", "1 MB of random bytes")
_RARELY = 800


def main() -> int:
    """Prints the tables in Markdown; returns 1 if the server died or answers otherwise than before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a SavedModel, such as a pushed version")
    parser.add_argument("--embedded", action="store_true", help="start the embedded server in any case")
    parser.add_argument("--requests", type=int, default=10_000, help="hostile requests (default: 10000)")
    parser.add_argument("--small-requests", type=int, default=100_000, help="for the memory (default: 100000)")
    parser.add_argument("--minutes", type=float, default=15.0, help="most minutes of each part (default: 15)")
    arguments = parser.parse_args()
    program = embedded_server() if arguments.embedded else find_model_server()
    with tempfile.TemporaryDirectory(prefix="bench-hostile-") as name:
        folder = Path(name)
        publish(arguments.model, folder / "ner")
        print(f"{program.name}; {machine()}\n", flush=True)
        with start_model_server(
            folder / "ner", "ner", rest_api_port=free_port(), program=program, deployment="cpu"
        ) as server:
            server.wait_until_available(timeout=300)
            with Client(server.target, model_name="ner") as client:
                before, processes = client.tag(PROBE), process_tree(server.process.pid)
                answers = send_hostile(server, arguments.requests, 60 * arguments.minutes)
                print_answers(answers)
                # The embedded server would start a crashed model again; that counts as a crash too.
                alive = server.process.poll() is None and process_tree(server.process.pid) == processes
                same = alive and client.tag(PROBE, timeout=120) == before
                print(f"\nserver alive: {alive}; answers as before: {same}; {machine()}\n", flush=True)
            if alive:
                texts = write_texts(_SMALL, folder / "texts.json")
                print_memory(server, texts, arguments.small_requests, 60 * arguments.minutes)
    return 0 if same else 1


def send_hostile(server: ModelServer, count: int, seconds: float) -> dict[str, Counter[str]]:
    """Sends up to `count` requests for up to `seconds`, eight at a time; returns the answers by kind."""
    channel = grpc.insecure_channel(server.target, options=[("grpc.max_send_message_length", -1)])
    predict = channel.unary_unary(PREDICT)
    kinds = {**_grpc_kinds(predict), **_rest_kinds(server)}
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    end = time.monotonic() + seconds

    def attack(seed: int) -> tuple[str, str] | None:
        if time.monotonic() > end:
            return None
        source = random.Random(seed)
        if seed % _RARELY == 0:
            name = _RARE[seed // _RARELY % len(_RARE)]
        else:
            name = source.choice([name for name in kinds if name not in _RARE])
        return name, kinds[name](source)

    with ThreadPoolExecutor(8) as pool:
        for outcome in pool.map(attack, range(count)):
            if outcome is not None:
                answers[outcome[0]][outcome[1]] += 1
    channel.close()
    return answers


def _grpc_kinds(predict: Any) -> dict[str, Callable[[random.Random], str]]:
    def send(data: bytes) -> str:
        try:
            predict(data, timeout=120)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    def texts(values: list[bytes], **spec: Any) -> bytes:
        return _request(_strings(values), **spec)

    def bad_bytes(source: random.Random) -> bytes:
        return b"".join(
            source.choice([b"\xff", b"\xc3", b"\xe4\xbd", b"\xed\xa0\x80", b"\xf5", b"a", b" "]) for _ in range(40)
        )

    def cut(source: random.Random) -> bytes:
        whole = texts([b"London"])
        return whole[: source.randrange(1, len(whole))]

    def flipped(source: random.Random) -> bytes:
        whole = bytearray(texts([b"Ada Lovelace", b"London"]))
        for _ in range(3):
            whole[source.randrange(len(whole))] = source.randrange(256)
        return bytes(whole)

    return {
        "random bytes as text": lambda source: send(
            texts([source.randbytes(source.randrange(1, 300)) for _ in range(3)])
        ),
        "invalid UTF-8": lambda source: send(texts([bad_bytes(source)])),
        "NUL and control characters": lambda source: send(texts([bytes(source.randrange(32) for _ in range(100))])),
        "random code points": lambda source: send(texts([_code_points(source).encode()])),
        "64 texts": lambda source: send(texts([source.randbytes(8) for _ in range(64)])),
        "1 MB of text": lambda source: send(texts([b"London is a city. " * 58_254])),
        "1 MB of random bytes": lambda source: send(texts([source.randbytes(2**20)])),
        "empty batch": lambda _: send(texts([])),
        "empty text": lambda _: send(texts([b""])),
        "wrong type of number": lambda source: send(
            _request(_numbers(source.choice([_DT_FLOAT, _DT_INT32, _DT_INT64]), [source.randrange(1, 5)]))
        ),
        "wrong rank": lambda source: send(_request(_strings([b"a"] * 4, source.choice([[], [2, 2], [1] * 40])))),
        "negative dimension": lambda source: send(_request(_strings([b"a"], [-source.randrange(1, 2**40)]))),
        "huge dimension": lambda source: send(_request(_strings([b"a"], [source.randrange(2**33, 2**62)]))),
        "unknown input": lambda source: send(_request(_strings([b"a"]), alias=f"x{source.random()}")),
        "no input": lambda _: send(
            protocol.PredictRequest(model_spec=protocol.ModelSpec(name="ner")).SerializeToString()
        ),
        "unknown signature": lambda source: send(texts([b"a"], signature=f"s{source.random()}")),
        "unknown model": lambda source: send(texts([b"a"], model=f"m{source.random()}")),
        "unknown version": lambda source: send(texts([b"a"], version=source.randrange(2**62))),
        "token ids out of range": lambda source: send(_tokens(source.choice([-1, 10**6, -(2**31)]))),
        "garbage examples": lambda source: send(
            _request(_strings([source.randbytes(50)]), alias=features.EXAMPLES, signature=features.EXAMPLES_SIGNATURE)
        ),
        "garbage in place of a message": lambda source: send(source.randbytes(source.randrange(1, 500))),
        "message cut short": lambda source: send(cut(source)),
        "message with bytes changed": lambda source: send(flipped(source)),
    }


def _rest_kinds(server: ModelServer) -> dict[str, Callable[[random.Random], str]]:
    assert server.rest_target is not None
    host, _, port = server.rest_target.rpartition(":")

    def post(body: bytes, path: str = "/v1/models/ner:predict", headers: dict[str, str] | None = None) -> str:
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        try:
            connection.request("POST", path, body, headers or {})
            return str(connection.getresponse().status)
        except (http.client.HTTPException, OSError) as error:
            return type(error).__name__
        finally:
            connection.close()

    def instances(*values: Any) -> bytes:
        return json.dumps({"instances": values}).encode()

    def slow(source: random.Random) -> str:
        # Promises a body and sends a byte a second, then hangs up.
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"POST /v1/models/ner:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(source.randrange(2, 6)):
                connection.sendall(b"{")
                time.sleep(1)
        return "hung up"

    return {
        "REST: deep JSON": lambda source: post(b"[" * source.choice([50, 1000, 100_000])),
        "REST: deep JSON, closed": lambda source: post(_nested(source.choice([50, 90, 1000, 50_000]))),
        "REST: random bytes": lambda source: post(source.randbytes(200)),
        "REST: lone surrogates, NUL": lambda _: post(b'{"instances": ["\\ud800 \\u0000 a"]}'),
        "REST: invalid UTF-8": lambda _: post(b'{"instances": ["\xff\xfe a"]}'),
        "REST: numbers in place of text": lambda source: post(instances(source.randrange(10**30), 1e308)),
        "REST: ragged rows": lambda _: post(instances(["a"], ["a", "b"])),
        "REST: no rows": lambda _: post(instances()),
        "REST: unknown path": lambda source: post(instances("a"), f"/v1/models/x{source.random()}:predict"),
        "REST: garbage in place of gzip": lambda source: post(
            source.randbytes(100), headers={"Content-Encoding": "gzip"}
        ),
        "slow client": slow,
    }


def _request(
    tensor: Any, *, alias: str = features.TEXT, signature: str = "", model: str = "ner", version: int = 0
) -> bytes:
    request = protocol.PredictRequest(model_spec=protocol.ModelSpec(name=model, signature_name=signature))
    if version:
        request.model_spec.version.value = version
    request.inputs[alias].CopyFrom(tensor)
    return bytes(request.SerializeToString(deterministic=True))


def _strings(values: list[bytes], shape: list[int] | None = None) -> Any:
    tensor = protocol.TensorProto(dtype=protocol.DT_STRING, string_val=values)
    tensor.tensor_shape.SetInParent()
    for length in [len(values)] if shape is None else shape:
        tensor.tensor_shape.dim.add(size=length)
    return tensor


def _numbers(dtype: int, shape: list[int], values: list[int] | None = None) -> Any:
    tensor = protocol.TensorProto(dtype=dtype)
    if values is not None:
        tensor.int_val.extend(values)
    for length in shape:
        tensor.tensor_shape.dim.add(size=length)
    return tensor


def _tokens(token_id: int) -> bytes:
    request = protocol.PredictRequest(
        model_spec=protocol.ModelSpec(name="ner", signature_name=features.TOKENS_SIGNATURE)
    )
    request.inputs[features.TOKEN_IDS].CopyFrom(_numbers(_DT_INT32, [1, 2], [1, token_id]))
    request.inputs[features.PADDING_MASK].CopyFrom(_numbers(_DT_INT32, [1, 2], [1, 1]))
    return bytes(request.SerializeToString(deterministic=True))


def _code_points(source: random.Random) -> str:
    return "".join(
        chr(source.choice([source.randrange(0xD800), source.randrange(0xE000, 0x110000)])) for _ in range(60)
    )


def _nested(depth: int) -> bytes:
    return b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"


def print_answers(answers: dict[str, Counter[str]]) -> None:
    """Prints how often each kind was answered how."""
    print("| kind | requests | answers |\n|---|---|---|")
    for kind, counts in sorted(answers.items()):
        print(f"| {kind} | {counts.total()} | {', '.join(f'{name} {n}' for name, n in counts.most_common())} |")
    print(f"| all | {sum(counts.total() for counts in answers.values())} | |", flush=True)


def print_memory(server: ModelServer, texts: Path, count: int, seconds: float) -> None:
    """Prints the resident memory of the server after each tenth of `count` small requests."""
    print("| small requests | of these failed | resident memory, MB |\n|---|---|---|")
    print(f"| 0 | 0 | {process_memory(server.process.pid)['Pss_Anon'] / 1e6:.0f} |", flush=True)
    failed = 0
    for sent, portion in _portions(count):
        if seconds <= 0:
            print(f"stopped after {sent} of {count}: time is up")
            return
        start = time.monotonic()
        load = finish_load(start_load(server.target, texts, "--clients=32", f"--requests={portion}"))
        failed += sum(load.failures.values())
        seconds -= time.monotonic() - start
        print(
            f"| {sent + portion} | {failed} | {process_memory(server.process.pid)['Pss_Anon'] / 1e6:.0f} |", flush=True
        )


def _portions(count: int) -> Iterator[tuple[int, int]]:
    size = max(count // 10, 1)
    for sent in range(0, count, size):
        yield sent, min(size, count - sent)


if __name__ == "__main__":
    sys.exit(main())
