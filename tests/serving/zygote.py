"""Starts embedded servers quickly: imports TensorFlow once, then forks a process for each server.

Reads JSON lines from stdin, `{"arguments": [...], "log": path, "folder": path}`, and answers each with a line
`{"pid": n}`. A line `{"pid": n}` asks for the exit status and is answered with `{"status": n or null}` (negative: the
signal that ended it).
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow  # noqa: F401
import tensorflow_text  # noqa: F401
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_log_pb2  # noqa: F401

# gRPC stays out: it must not have been used before a fork.
from serving.server import main


def start(arguments: list[str], log: str, folder: str) -> int:
    """Forks a server; returns its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.chdir(folder)
        status = main(arguments)
    finally:
        sys.stdout.flush()
        os._exit(status)


def exit_status(pid: int) -> int | None:
    """Returns the exit status of a server, None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "pid" in request:
            answer: dict[str, int | None] = {"status": exit_status(request["pid"])}
        else:
            answer = {"pid": start(request["arguments"], request["log"], request["folder"])}
        print(json.dumps(answer), flush=True)
