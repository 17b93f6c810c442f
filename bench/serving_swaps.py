"""Version swaps and a killed server, under load.

    python -m bench.serving_swaps --model output/serving/ner/1763950000 --texts test.conll

Publishes the same model again and again, as the Pusher does, to the server that `fusion-ner serve` finds, while clients
in a process of their own send single sentences at a fixed rate (a request's time counts from when it was due). Requests
are counted to a swap from the publication until the old version is unloaded. Then the server is killed (SIGKILL) while
clients work through a fixed number of requests, and started again on the same port.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from bench.measuring import Load, finish_load, machine, percentile, read_texts, start_load, write_texts
from components.pusher.publish import publish
from serving.client import Client
from serving.model_server import ModelServer, embedded_server, find_model_server, free_port, start_model_server


def main() -> None:
    """Prints two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a SavedModel, such as a pushed version")
    parser.add_argument("--texts", type=Path, required=True, help="annotated texts, in any format the pipeline reads")
    parser.add_argument("--embedded", action="store_true", help="start the embedded server in any case")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--per-second", type=float, default=10.0, help="requests a second (default: 10)")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between swaps (default: 3)")
    parser.add_argument("--kill-requests", type=int, default=2000, help="requests around the kill (default: 2000)")
    arguments = parser.parse_args()
    program = embedded_server() if arguments.embedded else find_model_server()
    with tempfile.TemporaryDirectory(prefix="bench-swaps-") as name:
        folder = Path(name)
        texts = write_texts(read_texts(arguments.texts), folder / "texts.json")
        base_path = folder / "ner"
        publish(arguments.model, base_path)
        clients = f"--clients={arguments.clients}"
        print(f"{program.name}; {machine()}\n", flush=True)

        with start_model_server(base_path, "ner", program=program, deployment="cpu") as server:
            server.wait_until_available(timeout=300)
            finish_load(start_load(server.target, texts, clients, "--seconds=3"))
            process = start_load(server.target, texts, clients, f"--per-second={arguments.per_second}")
            time.sleep(arguments.pause)
            windows = []
            for _ in range(arguments.swaps):
                windows.append(swap(server, arguments.model, base_path))
                time.sleep(arguments.pause)
            load = finish_load(process)
        print_swaps(load, windows, arguments.per_second)
        print(f"\n{machine()}\n", flush=True)

        port = free_port()
        with start_model_server(base_path, "ner", port=port, program=program, deployment="cpu") as server:
            server.wait_until_available(timeout=300)
            process = start_load(server.target, texts, clients, f"--requests={arguments.kill_requests}")
            with Client(server.target, model_name="ner") as client:
                client.tag(["The clients have had time to start."])
            time.sleep(3)
            server.process.kill()
            server.process.wait()
            killed = time.monotonic()
        with start_model_server(base_path, "ner", port=port, program=program, deployment="cpu") as server:
            load = finish_load(process)
        print_kill(load, killed, arguments.kill_requests)


def swap(server: ModelServer, model: Path, base_path: Path) -> tuple[float, float, float]:
    """Publishes the model once more; returns when that began, when it was available, and when the old one was gone."""
    start = time.monotonic()
    version = publish(model, base_path, keep_versions=2).version
    available = 0.0
    with Client(server.target, model_name="ner") as client:
        while True:
            states = {status.version: status.state for status in client.status()}
            if not available and states.get(version) == "AVAILABLE":
                available = time.monotonic()
            if available and all(state == "END" for number, state in states.items() if number != version):
                return start, available, time.monotonic()
            if states.get(version) == "END":
                raise RuntimeError(f"version {version} was not loaded")
            time.sleep(0.01)


def print_swaps(load: Load, windows: list[tuple[float, float, float]], per_second: float) -> None:
    """Prints the table of the swaps."""
    during: list[float] = []
    steady: list[float] = []
    for start, seconds in load.requests:
        inside = any(start <= end and start + seconds >= begin for begin, _, end in windows)
        (during if inside else steady).append(1000 * seconds)
    took = [available - begin for begin, available, _ in windows]
    print(
        f"{len(windows)} swaps, available after {statistics.median(took):.1f} s (median), {max(took):.1f} s (longest)"
    )
    print(f"{per_second:g} requests/s; failures: {load.failures or 0}; retries: {load.retries}\n")
    print("| | requests | p50, ms | p99, ms | worst, ms |\n|---|---|---|---|---|")
    for name, values in (("steady", steady), ("during a swap", during)):
        cells = (percentile(values, 0.5), percentile(values, 0.99), max(values))
        print(f"| {name} | {len(values)} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")
    print(
        f"\np99 during a swap / steady: {percentile(during, 0.99) / percentile(steady, 0.99):.2f} (at most 2 is wanted)"
    )


def print_kill(load: Load, killed: float, wanted: int) -> None:
    """Prints what became of the requests around the kill."""
    before = sum(start + seconds < killed for start, seconds in load.requests)
    first_after = min((start + seconds for start, seconds in load.requests if start + seconds > killed), default=killed)
    print("| killed with SIGKILL | |\n|---|---|")
    print(f"| requests wanted, answered | {wanted}, {len(load.requests)} |")
    print(f"| answered before the kill | {before} |")
    print(f"| failures that callers saw | {sum(load.failures.values())} {load.failures or ''} |")
    print(f"| UNAVAILABLE met and retried inside the clients | {load.retries} |")
    print(f"| first answer after the kill, seconds | {first_after - killed:.1f} |")


if __name__ == "__main__":
    main()
