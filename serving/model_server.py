"""Starts a model server as a child process: TensorFlow Serving where it is found, else the embedded server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from serving.client import Client, ServerUnavailable, VersionStatus
from serving.deploy.production import Device, production_flags
from serving.deploy.server_flags import flag_problems
from serving.environment import TENSORFLOW_ENVIRONMENT
from serving.errors import DeadlineExceeded, ModelNotFound

PROGRAM_VARIABLE = "TENSORFLOW_MODEL_SERVER"
PROGRAM_NAME = "tensorflow_model_server"

# A bad version would otherwise be tried for five minutes, during which no other version loads. Pushed versions
# appear whole, by rename, so that a second try could not go better.
_STEADY_FLAGS = ("--max_num_load_retries=0", "--enable_grpc_healthcheck_service=true", "--enable_profiler=false")


class ModelServerError(Exception):
    """Raised when a model server cannot be started or ends unasked; the message carries the end of its log."""


@dataclass(frozen=True)
class ServerProgram:
    """A program that speaks TensorFlow Serving's API: what to call it, and the command that starts it."""

    name: str
    command: tuple[str, ...]

    @property
    def is_embedded(self) -> bool:
        """Whether this is the embedded server of this project."""
        return self.command[1:] == ("-m", "serving.server")


def embedded_server() -> ServerProgram:
    """Returns the embedded server, run by the same Python."""
    return ServerProgram("the embedded server", (sys.executable, "-m", "serving.server"))


def find_model_server(environment: Mapping[str, str] = os.environ) -> ServerProgram:
    """Returns `$TENSORFLOW_MODEL_SERVER`, else tensorflow_model_server on the PATH, else the embedded server.

    Raises:
        ModelServerError: the variable is set, but names no program.
    """
    named = environment.get(PROGRAM_VARIABLE, "")
    found = shutil.which(named or PROGRAM_NAME, path=environment.get("PATH"))
    if named and found is None:
        raise ModelServerError(f"{PROGRAM_VARIABLE}: expected the path of a program; received {named!r}")
    if found is None:
        return embedded_server()
    return ServerProgram("TensorFlow Serving", (os.path.abspath(found),))


def version_numbers(base_path: Path) -> list[int]:
    """Returns the versions under `base_path`, lowest first.

    Raises:
        ModelServerError: the folder does not exist or holds no version.
    """
    if not base_path.is_dir():
        raise ModelServerError(f"{base_path}: expected a folder with version folders in it; there is no such folder")
    versions = sorted(
        int(child.name)
        for child in base_path.iterdir()
        if child.name.isascii() and child.name.isdigit() and child.is_dir()
    )
    if not versions:
        models = sorted(child.parent.parent.name for child in base_path.glob("*/*/saved_model.pb"))
        hint = f" Did you mean {base_path / models[0]}?" if models else ""
        raise ModelServerError(
            f"{base_path}: expected version folders, named by a number (such as {base_path / '1'}); found none.{hint}"
        )
    return versions


def free_port() -> int:
    """Returns a TCP port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port_is_free(port: int) -> None:
    """Raises ModelServerError if another program listens on `port`."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier server that linger are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            raise ModelServerError(
                f"port {port}: expected a free port; it cannot be opened ({error.strerror}): "
                "stop the program that uses it or name another port"
            ) from error


class ModelServer:
    """A model server that runs as a child process; leave the context, or call `stop`, to end it.

    Attributes:
        program: which server it is.
        target: "host:port" of the gRPC API.
        rest_target: "host:port" of the REST API, None if it is off.
        model_name: name of the model it serves.
        process: the child.
    """

    def __init__(
        self,
        program: ServerProgram,
        process: subprocess.Popen[bytes],
        *,
        model_name: str,
        port: int,
        rest_api_port: int,
        log: Path | None,
    ) -> None:
        self.program = program
        self.process = process
        self.model_name = model_name
        self.target = f"127.0.0.1:{port}"
        self.rest_target = f"127.0.0.1:{rest_api_port}" if rest_api_port else None
        self._log = log

    def wait_until_available(self, timeout: float = 60.0) -> VersionStatus:
        """Waits until the model is available and returns the version that is.

        Raises:
            ModelServerError: the server ended, or the model was not available within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with Client(self.target, model_name=self.model_name) as client:
            while True:
                if self.process.poll() is not None:
                    raise ModelServerError(
                        f"{self.program.name} ended with status {self.process.returncode} before it served"
                        f" {self.model_name!r}{self._log_end()}"
                    )
                # In short pieces, so that the end of the process is seen soon.
                remaining = deadline - time.monotonic()
                try:
                    return client.wait_until_available(timeout=max(min(remaining, 0.5), 0.01))
                except (ServerUnavailable, ModelNotFound, DeadlineExceeded) as error:
                    if remaining <= 0:
                        raise ModelServerError(
                            f"{self.program.name} does not serve {self.model_name!r} after {timeout:g} s: {error}"
                            f"{self._log_end()}"
                        ) from error

    def log_text(self) -> str:
        """Returns what the server has logged so far; "" if its log goes to the terminal."""
        return "" if self._log is None else self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self, timeout: float = 10.0) -> int:
        """Asks the server to end, forces it after `timeout` seconds, and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def _log_end(self) -> str:
        lines = [line for line in self.log_text().splitlines() if line.strip()]
        return "" if not lines else ". The end of its log:\n" + "\n".join(lines[-15:])


@contextlib.contextmanager
def start_model_server(
    base_path: Path,
    model_name: str,
    *,
    port: int = 0,
    rest_api_port: int = 0,
    program: ServerProgram | None = None,
    flags: Sequence[str] = (),
    deployment: Device | None = None,
    batching: bool = True,
    log_to_terminal: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[ModelServer]:
    """Starts a model server on the versions under `base_path`, and stops it when the context ends.

    Args:
        base_path: folder that holds the version folders.
        model_name: name under which the model is served.
        port: port of the gRPC API; 0 takes a free one.
        rest_api_port: port of the REST API; 0 leaves it off.
        program: which server; by default the one that `find_model_server` finds.
        flags: further flags of tensorflow_model_server, such as `--file_system_poll_wait_seconds=1`.
        deployment: lets TensorFlow Serving run with the flags of our deployment on this device; the embedded server,
            which has neither batching files nor metrics, runs as ever.
        batching: whether these flags switch batching on.
        log_to_terminal: let the server write to this process's stdout and stderr; else its log is kept for errors.
        environment: variables for the server, beside those of this process.

    Raises:
        ModelServerError: no such folder, no version in it, a port in use, or a flag that TensorFlow Serving would
            ignore or misread.

    Example:
        >>> with start_model_server(Path("/models/ner"), "ner") as server:
        ...     server.wait_until_available(timeout=60)
        ...     client = Client(server.target, model_name="ner")
    """
    base_path = base_path.resolve()
    version_numbers(base_path)
    program = program or find_model_server()
    port = port or free_port()
    for needed in filter(None, (port, rest_api_port)):
        check_port_is_free(needed)
    arguments = [
        f"--port={port}",
        f"--rest_api_port={rest_api_port}",
        f"--model_name={model_name}",
        f"--model_base_path={base_path}",
        *_STEADY_FLAGS,
    ]
    if deployment is not None and not program.is_embedded:
        arguments += production_flags(deployment, batching=batching, rest=rest_api_port > 0)
    arguments += flags
    # The embedded server refuses such flags itself.
    problems = [] if program.is_embedded else flag_problems(arguments)
    if problems:
        raise ModelServerError("; ".join(problems))
    command = [*_dying_with_this_process(), *program.command, *arguments]
    with contextlib.ExitStack() as stack:
        log_path: Path | None = None
        output: IO[Any] | None = None
        if not log_to_terminal:
            output = stack.enter_context(tempfile.NamedTemporaryFile(prefix="model-server-", suffix=".log"))
            log_path = Path(output.name)
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**_environment(program), **(environment or {})}
        )
        server = ModelServer(
            program, process, model_name=model_name, port=port, rest_api_port=rest_api_port, log=log_path
        )
        try:
            yield server
        finally:
            server.stop()


def _dying_with_this_process() -> tuple[str, ...]:
    """A prefix of a command: the kernel ends the program when this process ends, even by SIGKILL (Linux only)."""
    if sys.platform != "linux":
        return ()
    # prctl(PR_SET_PDEATHSIG) outlives exec; in a program of its own, because code between fork and exec can hang where
    # threads run. The parent may be gone before the call.
    program = (
        "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
        "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
    )
    return (sys.executable, "-S", "-c", program, str(os.getpid()))


def _environment(program: ServerProgram) -> dict[str, str]:
    environment = TENSORFLOW_ENVIRONMENT | os.environ
    if program.is_embedded:
        # The child finds this project wherever it was started.
        root = str(Path(__file__).resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return environment
