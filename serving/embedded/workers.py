"""The server's side of the processes of versions: starts them, passes requests on, and sees when one ends."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from tensorflow.core.protobuf import meta_graph_pb2

from serving.embedded.forking import ForkServer
from serving.embedded.status import StatusError
from serving.embedded.worker import TIME_IS_UP, Answer, Call, Loaded, WorkerOptions, run_worker

logger = logging.getLogger(__name__)

# A version that loads stands still while requests run, but not for longer than this at a time ..
_LONGEST_PAUSE_SECONDS = 0.05
# .. and then goes on for this long, so that it has half of the time under any load.
_LEAST_TURN_SECONDS = 0.05

_LONGEST_SECONDS = 7 * 24 * 3600


def deadline_after(seconds: float | None) -> float | None:
    """Returns the time by the monotonic clock that is `seconds` away, None for None and for what is beyond a week.

    A gRPC call without a deadline has one that is centuries away, longer than a lock can wait.
    """
    return None if seconds is None or seconds > _LONGEST_SECONDS else time.monotonic() + seconds


class LoadPauses:
    """Lets versions load in the gaps between requests: few cores cannot do both without making requests wait.

    With 10 requests/s on two cores the p99 of requests during a swap was 1.0 to 1.3 times the steady one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests = 0
        self._loading: set[int] = set()
        self._paused = False

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Marks the time in which a request runs."""
        with self._changed:
            self._requests += 1
            if self._requests == 1 and self._loading:
                self._changed.notify_all()
                self._pause()
        try:
            yield
        finally:
            with self._changed:
                self._requests -= 1
                if not self._requests and self._loading:
                    self._resume()
                    self._changed.notify_all()

    @contextlib.contextmanager
    def loading(self, pid: int) -> Iterator[None]:
        """Marks the time in which the process `pid` loads a version; it must not be reaped meanwhile."""
        done = threading.Event()
        with self._changed:
            self._loading.add(pid)
            if self._requests:
                self._pause()
        thread = threading.Thread(target=self._give_turns, args=(done,), name="load-turns", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            with self._changed:
                self._loading.remove(pid)
                os.kill(pid, signal.SIGCONT)
                self._changed.notify_all()
            thread.join()

    def _give_turns(self, done: threading.Event) -> None:
        """Bounds every pause."""
        while not done.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._paused or done.is_set(), 1.0)
                resumed = self._changed.wait_for(lambda: not self._paused or done.is_set(), _LONGEST_PAUSE_SECONDS)
                if resumed:
                    continue
                self._resume()
            done.wait(_LEAST_TURN_SECONDS)
            with self._changed:
                if self._requests and not done.is_set():
                    self._pause()

    def _pause(self) -> None:
        self._paused = True
        for pid in self._loading:
            os.kill(pid, signal.SIGSTOP)

    def _resume(self) -> None:
        self._paused = False
        for pid in self._loading:
            os.kill(pid, signal.SIGCONT)


class Worker:
    """A version in a process of its own; thread-safe.

    Attributes:
        signatures: the SignatureDefs by name.
        ended: why the process ended unasked; None while it runs.
    """

    def __init__(self, fork_server: ForkServer, pid: int, connection: Connection, pauses: LoadPauses) -> None:
        self._fork_server = fork_server
        self._pid = pid
        self._connection = connection
        self._pauses = pauses
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._waiting: dict[int, Future[bytes]] = {}
        self._closing = False
        self._reaping = threading.Lock()
        self._end: str | None = None
        self.signatures: Mapping[str, Any] = {}
        self.ended: str | None = None

    def wait_until_loaded(self) -> None:
        """Waits until the version can answer.

        Raises:
            StatusError: it cannot be loaded, or its process ended.
        """
        with self._pauses.loading(self._pid):
            try:
                loaded: Loaded | None = self._connection.recv()
            except (EOFError, OSError):
                loaded = None
        if loaded is None:
            raise StatusError("INTERNAL", f"The process that was to load the version {self._reap()}")
        if loaded.error is not None:
            self.close()
            raise StatusError(*loaded.error)
        self.signatures = {
            name: meta_graph_pb2.SignatureDef.FromString(data) for name, data in loaded.signatures.items()
        }
        threading.Thread(target=self._read, name=f"worker-{self._pid}", daemon=True).start()

    def call(
        self,
        kind: Literal["predict", "json"],
        data: bytes,
        version: int,
        deadline: float | None,
        when_taken: Callable[[Callable[[], None]], object] | None = None,
    ) -> bytes:
        """Passes a request on and waits for its answer; see `Call` for the arguments.

        Args:
            when_taken: is given a function to call when nobody waits for the answer any more. What has begun to run
                then runs on until its deadline, for a session cannot be interrupted otherwise.

        Raises:
            StatusError: the worker's; UNAVAILABLE if its process ended, DEADLINE_EXCEEDED or CANCELLED.
        """
        number = next(self._numbers)
        future: Future[bytes] = Future()
        with self._pauses.request():
            with self._lock:
                if self.ended is not None:
                    raise StatusError("UNAVAILABLE", self.ended)
                self._waiting[number] = future
            self._send(Call(number, kind, data, version, deadline))
            if when_taken is not None:
                when_taken(lambda: self._cancel(number, StatusError("CANCELLED", "The client has gone")))
            try:
                return future.result(None if deadline is None else max(deadline - time.monotonic(), 0))
            except futures.TimeoutError:
                error = StatusError("DEADLINE_EXCEEDED", TIME_IS_UP)
                self._cancel(number, error)
                raise error from None

    def _cancel(self, number: int, error: StatusError) -> None:
        with self._lock:
            future = self._waiting.pop(number, None)
        if future is not None:
            future.set_exception(error)
            self._send(Call(number, "cancel"))

    def close(self) -> None:
        """Ends the process; no request may be under way."""
        self._closing = True
        self._reap()

    def _send(self, call: Call) -> None:
        # If the process has ended, the thread that reads from it says so.
        with contextlib.suppress(OSError), self._sending:
            self._connection.send(call)

    def _read(self) -> None:
        while True:
            try:
                answer: Answer = self._connection.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                future = self._waiting.pop(answer.number, None)
            if future is None:
                continue  # nobody waits any more
            if answer.error is None:
                future.set_result(answer.data)
            else:
                future.set_exception(StatusError(*answer.error))
        if self._closing:
            return
        ended = f"The process of the version {self._reap()}"
        with self._lock:
            self.ended = ended
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for future in waiting:
            future.set_exception(StatusError("UNAVAILABLE", ended))

    def _reap(self) -> str:
        with self._reaping:
            if self._end is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
                self._end = self._fork_server.reap(self._pid)
                self._connection.close()
        return self._end


class Workers:
    """Starts workers; made before the process has used gRPC or TensorFlow's sessions, which must not be forked."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._fork_server = ForkServer(run_worker)
        self.pauses = LoadPauses()

    def load(self, path: Path) -> Worker:
        """Returns a worker that has loaded the version at `path` and warmed it up.

        Raises:
            StatusError: it cannot be loaded.
        """
        pid, connection = self._fork_server.fork(path, self._options)
        worker = Worker(self._fork_server, pid, connection, self.pauses)
        worker.wait_until_loaded()
        return worker
