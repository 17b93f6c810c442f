"""Server processes for the tests: the embedded server, forked from a process that has TensorFlow, or any command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Process(Protocol):
    """What the tests need of a server's process."""

    pid: int

    def poll(self) -> int | None: ...


class Launcher(Protocol):
    """Starts a server with flags, its output going to a log file."""

    def start(self, flags: list[str], *, log: Path, folder: Path) -> Process: ...


class ProgramLauncher:
    """Runs a program, tensorflow_model_server.

    Args:
        program: its path; a relative one is taken from here, since servers are started in folders of their own.
    """

    def __init__(self, program: str) -> None:
        self._program = os.path.abspath(program)

    def start(self, flags: list[str], *, log: Path, folder: Path) -> Process:
        # The recorded logs have their lines of information, which the variable of whoever runs the tests may hide.
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
        with log.open("w") as output:
            return subprocess.Popen(
                [self._program, *flags], stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=environment
            )


class ZygoteLauncher:
    """Forks embedded servers from one process that has imported TensorFlow, which takes seconds each time otherwise."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self._is_ready = False

    def start(self, flags: list[str], *, log: Path, folder: Path) -> Process:
        return ForkedProcess(self, self.ask({"arguments": flags, "log": str(log), "folder": str(folder)})["pid"])

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            if not self._is_ready:
                assert self._read() == {"ready": True}
                self._is_ready = True
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the process that forks servers ended with status {self._process.wait()}"
        return json.loads(line)


@dataclass
class ForkedProcess:
    """A server that a ZygoteLauncher forked."""

    launcher: ZygoteLauncher
    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.launcher.ask({"pid": self.pid})["status"]
        return self.returncode


def end(process: Process) -> None:
    """Kills a server that still runs."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        while process.poll() is None:
            time.sleep(0.01)


def free_port() -> int:
    """Returns a port that is free now, outside the range that outgoing connections use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    """Whether something listens on `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
