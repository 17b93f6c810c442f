"""Throughput and latency of serving, beside the bare model in this process and a peer, measured in turns in one run.

    python -m bench.serving_load --model output/serving/ner/1763950000 --texts test.conll --encoder FOLDER
    python -m bench.serving_load --target localhost:8500 --model-name ner --model ... --texts ...

16 clients in a process of their own send single sentences over gRPC to the server that `fusion-ner serve` finds, or to
the one at --target. The bare model is the same SavedModel in a session of this process with TensorFlow's own numbers of
threads, asked for the same sentences, at the batch size that suits it best; one client takes turns with it every few
sentences. With --encoder (a folder in Hugging Face layout), the peer of bench/peer_server.py answers the same sentences
over HTTP; `make bench` makes its virtual environment.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import resource
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.measuring import Load, cpu_seconds, finish_load, machine, percentile, read_texts, start_load, write_texts
from components import features
from components.pusher.publish import publish
from serving.client import Client
from serving.embedded.saved_model import LoadedModel
from serving.model_server import embedded_server, find_model_server, free_port, start_model_server

BATCH_SIZES = (4, 8, 16, 32, 64)
CLIENTS = 16
# One client and the bare model change places after so many sentences, a third of a second: long enough for warm caches,
# too short for the machine to change its speed meanwhile. In turns of 3 to 5 s the ratio of the same two programs was
# 1.05 to 1.29, in turns of 1 to 20 sentences 1.16 to 1.21.
SENTENCES_A_TURN = 20
PEER_PYTHON = Path(__file__).resolve().parent.parent / ".venv-peer" / "bin" / "python"


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a SavedModel, such as a pushed version")
    parser.add_argument("--texts", type=Path, required=True, help="annotated texts, in any format the pipeline reads")
    parser.add_argument("--encoder", type=Path, help="the encoder's folder, for the peer; without it there is no peer")
    parser.add_argument("--labels", type=int, default=13, help="labels of the peer's classifier (default: 13)")
    parser.add_argument("--target", help="HOST:PORT of a server that already runs with this model")
    parser.add_argument("--model-name", default="ner")
    parser.add_argument("--embedded", action="store_true", help="start the embedded server in any case")
    parser.add_argument(
        "--server-flag",
        action="append",
        default=[],
        metavar="FLAG",
        help="further flag of the server that is started, such as --tensorflow_intra_op_parallelism=1; can be repeated",
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default: 3)")
    parser.add_argument("--rounds", type=int, default=8, help="turns, of which the median counts (default: 8)")
    arguments = parser.parse_args()
    texts = read_texts(arguments.texts)
    random.Random(1).shuffle(texts)
    model = LoadedModel(arguments.model)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-load-")))
        texts_file = write_texts(texts, folder / "texts.json")
        peers = _start_peers(arguments, stack)
        name, target, pid = f"server at {arguments.target}", arguments.target, None
        if target is None:
            program = embedded_server() if arguments.embedded else find_model_server()
            publish(arguments.model, folder / arguments.model_name)
            server = stack.enter_context(
                start_model_server(
                    folder / arguments.model_name,
                    arguments.model_name,
                    program=program,
                    deployment="cpu",
                    flags=arguments.server_flag,
                )
            )
            server.wait_until_available(timeout=300)
            name, target, pid = program.name, server.target, server.process.pid
        client = stack.enter_context(Client(target, model_name=arguments.model_name))
        grpc = ("--protocol=grpc", f"--model-name={arguments.model_name}", f"--seconds={arguments.seconds}")
        http = ("--protocol=http", f"--clients={CLIENTS}", f"--seconds={arguments.seconds}")

        lengths = [len(text) for text in texts]
        print(f"{name}; {len(texts)} sentences of {min(lengths)} to {max(lengths)} characters", end=", ")
        print(f"{statistics.mean(lengths):.0f} on average; {machine()}\n")
        bare_throughput(model, texts, 16, 2)
        finish_load(start_load(target, texts_file, *grpc, "--seconds=2"))
        sweep = {size: bare_throughput(model, texts, size, arguments.seconds / 2) for size in BATCH_SIZES}
        best = max(sweep, key=lambda size: sweep[size])
        print("bare model, sentences/s by batch size:", ", ".join(f"{size}: {sweep[size]:.0f}" for size in sweep))

        rows: dict[str, list[list[float]]] = {}
        cpu: dict[str, list[float]] = {}
        for number in range(arguments.rounds):
            before = _cpu_seconds(pid)
            many = finish_load(start_load(target, texts_file, *grpc, f"--clients={CLIENTS}"))
            spent = {kind: value - before[kind] for kind, value in _cpu_seconds(pid).items()}
            before = _cpu_seconds(pid)
            bare = bare_throughput(model, texts, best, arguments.seconds)
            own = _cpu_seconds(pid)["own"] - before["own"]
            for kind, seconds, sentences in (
                ("the bare model", own, bare * arguments.seconds),
                ("the server", spent["server"], len(many.requests)),
                ("the clients", spent["clients"], len(many.requests)),
            ):
                cpu.setdefault(kind, []).append(1000 * seconds / sentences)
            _expect_no_failures(many)
            one, alone = single_latencies(client, model, texts, 2 * arguments.seconds)
            rows.setdefault(f"bare model, batches of {best}", []).append([bare])
            rows.setdefault("bare model, one sentence at a time", []).append(
                _cells(1000 / statistics.mean(alone), alone)
            )
            rows.setdefault(f"{name}, {CLIENTS} clients", []).append(_cells(many.per_second, many.milliseconds))
            rows.setdefault(f"{name}, one client", []).append(_cells(1000 / statistics.mean(one), one))
            for label, peer in peers.items():
                load = finish_load(start_load(peer, texts_file, *http))
                _expect_no_failures(load)
                rows.setdefault(label, []).append(_cells(load.per_second, load.milliseconds))
            print(f"turn {number + 1}: {machine()}", flush=True)

    middle = {
        label: [statistics.median(column) for column in zip(*turns, strict=True)] for label, turns in rows.items()
    }
    print("\n| median of turns | sentences/s | lowest to highest turn | p50, ms | p99, ms |\n|---|---|---|---|---|")
    for label, cells in middle.items():
        turns = [turn[0] for turn in rows[label]]
        latencies = [f"{cell:.1f}" for cell in cells[1:]] or ["", ""]
        print(f"| {label} | {cells[0]:.0f} | {min(turns):.0f} to {max(turns):.0f} | {' | '.join(latencies)} |")
    ours, single = middle[f"{name}, {CLIENTS} clients"], middle[f"{name}, one client"]
    print("\n| ratio | target | measured |\n|---|---|---|")
    share = ours[0] / middle[f"bare model, batches of {best}"][0]
    print(f"| throughput, {CLIENTS} clients / bare model at its best | at least 0.85 | {share:.2f} |")
    ratio = single[1] / middle["bare model, one sentence at a time"][1]
    print(f"| p50, one client / bare forward pass | at most 1.25 | {ratio:.2f} |")
    if peers:
        rival = max((middle[label] for label in peers), key=lambda cells: cells[0])
        print(f"| throughput, {CLIENTS} clients / peer | at least 3 | {ours[0] / rival[0]:.2f} |")
        print(f"| p99, {CLIENTS} clients / peer | below 1 | {ours[2] / rival[2]:.2f} |")
    shares = ", ".join(f"{kind} {statistics.median(turns):.1f}" for kind, turns in cpu.items())
    print(f"\nprocessor milliseconds for a sentence, {CLIENTS} clients: {shares}")
    model.close()


def bare_throughput(model: LoadedModel, texts: list[str], batch_size: int, seconds: float) -> float:
    """Returns sentences a second of the session alone."""
    queue = itertools.cycle(texts)
    done, start = 0, time.monotonic()
    while time.monotonic() < start + seconds:
        _run(model, list(itertools.islice(queue, batch_size)))
        done += batch_size
    return done / (time.monotonic() - start)


def single_latencies(
    client: Client, model: LoadedModel, texts: list[str], seconds: float
) -> tuple[list[float], list[float]]:
    """Returns the milliseconds of the same sentences one at a time: of each request, and of each forward pass."""
    served: list[float] = []
    bare: list[float] = []
    ways = ((lambda text: client.tag([text]), served), (lambda text: _run(model, [text]), bare))
    end = time.monotonic() + seconds
    queue = itertools.cycle(texts)
    while time.monotonic() < end:
        turn = list(itertools.islice(queue, SENTENCES_A_TURN))
        for tag, milliseconds in ways:
            for text in turn:
                start = time.monotonic()
                tag(text)
                milliseconds.append(1000 * (time.monotonic() - start))
    return served, bare


def _run(model: LoadedModel, texts: list[str]) -> None:
    signature = model.signatures[features.SERVING_SIGNATURE]
    inputs = {features.TEXT: np.array([text.encode() for text in texts], object)}
    model.run(features.SERVING_SIGNATURE, inputs, sorted(signature.outputs))


def _cpu_seconds(server: int | None) -> dict[str, float]:
    """Returns the processor time that this process, the clients that ended and the server (0 if unknown) have spent."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    clients = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "own": own.ru_utime + own.ru_stime,
        "clients": clients.ru_utime + clients.ru_stime,
        "server": 0.0 if server is None else cpu_seconds(server),
    }


def _cells(per_second: float, milliseconds: list[float]) -> list[float]:
    return [per_second, percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)]


def _expect_no_failures(load: Load) -> None:
    if load.failures:
        raise RuntimeError(f"requests failed: {load.failures}")


def _start_peers(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> dict[str, str]:
    """Starts the peer twice, with PyTorch's own number of threads and with one: the better one counts."""
    if arguments.encoder is None:
        return {}
    if not PEER_PYTHON.exists():
        raise SystemExit(f"--encoder: the peer needs its virtual environment, {PEER_PYTHON.parent.parent}: make bench")
    peers = {}
    for threads, label in ((0, "PyTorch's own threads"), (1, "one PyTorch thread a request")):
        peers[f"peer ({label}), {CLIENTS} clients"] = stack.enter_context(_peer(arguments, threads))
    return peers


@contextlib.contextmanager
def _peer(arguments: argparse.Namespace, threads: int) -> Iterator[str]:
    port = free_port()
    command = [str(PEER_PYTHON), str(Path(__file__).with_name("peer_server.py"))]
    options = [f"--encoder={arguments.encoder}", f"--labels={arguments.labels}", f"--port={port}"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    process = subprocess.Popen([*command, *options, f"--threads={threads}"], env=environment)
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the peer does not start; its output tells why")
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
