"""What the warm-up requests of a model are worth: the first hundred requests after a swap, with and without them.

    python -m bench.warmup --model output/serving/ner/1763950000 --texts examples/zh/test.jsonl

Starts the model server that `fusion-ner serve` would find, once with warm-up and once with --enable_model_warmup=false,
and publishes the same model to it again and again. After each swap one client sends a hundred single sentences, one
after another; then each other signature gets its first request, one of the warm-up file's own. What is timed is the
request as the client sees it, over gRPC.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.measuring import read_texts
from components.features import SERVING_SIGNATURE
from components.pusher.publish import publish
from serving.client import Client
from serving.model_server import ModelServer, embedded_server, find_model_server, start_model_server
from serving.protocol import fusion_ner_protocol_pb2 as protocol

REQUESTS = 100
MODEL_NAME = "ner"
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"


@dataclasses.dataclass(frozen=True)
class Swap:
    """One swap: seconds from the publication until the version was available, and of the requests after it.

    Args:
        available: from the publication on.
        requests: each of the requests to `serving_default`, in order.
        others: the first request to each other signature, by its name.
    """

    available: float
    requests: tuple[float, ...]
    others: Mapping[str, float]


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a SavedModel with warm-up requests")
    parser.add_argument("--texts", type=Path, required=True, help="annotated texts, in any format the pipeline reads")
    parser.add_argument("--swaps", type=int, default=5, help="swaps for each of both (default: 5)")
    parser.add_argument("--embedded", action="store_true", help="use the embedded server in any case")
    arguments = parser.parse_args()
    if not (arguments.model / WARM_UP_FILE).is_file():
        parser.error(f"--model: {arguments.model} has no {WARM_UP_FILE}")
    texts = read_texts(arguments.texts)
    program = embedded_server() if arguments.embedded else find_model_server()
    print(f"{program.name}; {arguments.swaps} swaps each, {REQUESTS} requests of one text after each; milliseconds\n")
    others = other_requests(arguments.model)
    firsts = "".join(f" first `{name}` |" for name in others)
    print(f"| warm-up | first, median | first, worst | p50 | p99 | first / p50 |{firsts} available after, s |")
    print("|---|---|---|---|---|---|" + "---|" * (len(others) + 1))
    for name, flags in (("without", ("--enable_model_warmup=false",)), ("with", ())):
        with tempfile.TemporaryDirectory(prefix="bench-warmup-") as folder:
            base_path = Path(folder) / MODEL_NAME
            publish(arguments.model, base_path)
            with start_model_server(base_path, MODEL_NAME, program=program, deployment="cpu", flags=flags) as server:
                server.wait_until_available(timeout=300)
                swaps = [
                    measure_swap(server, arguments.model, base_path, texts, others) for _ in range(arguments.swaps)
                ]
        print(row(name, swaps), flush=True)


def other_requests(model: Path) -> dict[str, Any]:
    """Returns the first warm-up request of each signature but `serving_default`, by the signature's name."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    found: dict[str, Any] = {}
    for record in tf.data.TFRecordDataset(str(model / WARM_UP_FILE)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        name = request.model_spec.signature_name
        if name != SERVING_SIGNATURE and name not in found:
            found[name] = protocol.PredictRequest.FromString(request.SerializeToString())
            found[name].model_spec.name = MODEL_NAME
    return dict(sorted(found.items()))


def measure_swap(
    server: ModelServer, model: Path, base_path: Path, texts: list[str], others: Mapping[str, Any]
) -> Swap:
    """Publishes the model once more and times the requests that the new version answers."""
    with Client(server.target, model_name=server.model_name) as client:
        # Connected before the swap: the first request is to measure the model.
        client.tag([texts[-1]])
        version = publish(model, base_path, keep_versions=2).version
        start = time.monotonic()
        while not any(status.version == version and status.state == "AVAILABLE" for status in client.status()):
            time.sleep(0.002)
        available = time.monotonic() - start
        seconds = []
        for text in itertools.islice(itertools.cycle(texts), REQUESTS):
            start = time.monotonic()
            tagged = client.tag([text])
            seconds.append(time.monotonic() - start)
            if tagged[0].model_version != version:
                raise RuntimeError(f"version {tagged[0].model_version} answered, not {version}")
        first = {}
        for name, request in others.items():
            start = time.monotonic()
            client.predict(request)
            first[name] = time.monotonic() - start
        return Swap(available, tuple(seconds), first)


def row(name: str, swaps: list[Swap]) -> str:
    """Returns the row of the table."""
    first = [1000 * swap.requests[0] for swap in swaps]
    every = sorted(1000 * seconds for swap in swaps for seconds in swap.requests)
    p50, p99 = statistics.median(every), every[int(0.99 * (len(every) - 1))]
    cells = (statistics.median(first), max(first), p50, p99, statistics.median(first) / p50)
    others = [1000 * statistics.median(swap.others[signature] for swap in swaps) for signature in swaps[0].others]
    available = statistics.median(swap.available for swap in swaps)
    return f"| {name} | {' | '.join(f'{cell:.1f}' for cell in (*cells, *others))} | {available:.2f} |"


if __name__ == "__main__":
    main()
