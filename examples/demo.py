"""`make demo`: the way of a new user, with the commands that the user would type.

Runs the pipeline on the bundled Chinese corpus, serves the pushed model and tags sentences over gRPC.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = str(Path(sys.executable).with_name("fusion-ner"))
CONFIGURATION = "examples/demo.yaml"
MODEL_NAME = "ner"
SERVING_DIRECTORY = f"build/demo/serving/{MODEL_NAME}"
SERVER_SECONDS = 120
SENTENCES = (
    "昨天下午，王晓明在北京宣布加入华星科技。",
    "２０２５年５月，李娜从上海飞往广州，参加云帆集团的发布会😀！",
    "The iPhone 16 发布会由陈建国主持，地点在深圳。",
)


def main() -> int:
    """Runs the demonstration; returns 0 when entities came back over gRPC."""
    start = time.monotonic()
    if _call("run", "--config", CONFIGURATION) != 0:
        return 1
    port = _free_port()
    with _server(port):
        status = _call("tag", "--target", f"localhost:{port}", "--model-name", MODEL_NAME, "--pretty", *SENTENCES)
    print(f"\nThe demonstration took {time.monotonic() - start:.0f} s. The model lies in {SERVING_DIRECTORY}.")
    return status


def _call(*words: str) -> int:
    print(f"\n$ fusion-ner {shlex.join(words)}", flush=True)
    return subprocess.run([COMMAND, *words], cwd=ROOT, check=False).returncode


@contextlib.contextmanager
def _server(port: int) -> Iterator[None]:
    """Runs `fusion-ner serve` until the block ends; raises RuntimeError when it does not open its port."""
    words = ("serve", "--model-name", MODEL_NAME, "--model-base-path", SERVING_DIRECTORY, "--port", str(port))
    print(f"\n$ fusion-ner {shlex.join(words)} &", flush=True)
    with subprocess.Popen([COMMAND, *words], cwd=ROOT) as process:
        try:
            deadline = time.monotonic() + SERVER_SECONDS
            # The port opens when the model is available, on TF Serving and on the embedded server alike.
            while not _is_open(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not open port {port} within {SERVER_SECONDS} s")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(30)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
