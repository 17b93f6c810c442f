"""Forks processes on request from a copy of this process, made while it was still fit to be copied.

A process that has imported TensorFlow forks in milliseconds, where a new one takes seconds to import it. But one that
has used gRPC or runs threads must not be forked. So it is forked once at its start, and that copy, which does nothing
else, forks every later process. (`multiprocessing`'s fork server imports everything anew instead.)
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_PR_SET_PDEATHSIG = 1
_MOST_BYTES = 2**16


class ForkServer:
    """Runs `target(*arguments, connection)` in processes of their own, which end when this one does.

    Args:
        target: what the processes run; they exit when it returns.
    """

    def __init__(self, target: Callable[..., None]) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self._socket.close()
            _end_with_parent()
            _exit_after(_serve, theirs, target)
        theirs.close()

    def fork(self, *arguments: Any) -> tuple[int, Connection]:
        """Starts a process; returns its id and the other end of its connection."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            socket.send_fds(self._socket, [pickle.dumps(arguments)], [theirs.fileno()])
            pid = pickle.loads(self._socket.recv(_MOST_BYTES))
        return pid, Connection(ours.detach())

    def reap(self, pid: int) -> str:
        """Waits for the end of a process and says how it ended; until then its id belongs to no other process."""
        with self._lock:
            self._socket.send(pickle.dumps(pid))
            status: int = pickle.loads(self._socket.recv(_MOST_BYTES))
        return f"ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _serve(requests: socket.socket, target: Callable[..., None]) -> None:
    # The server decides when its processes end; a key press or a signal to the whole group must not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, _MOST_BYTES, 1)
        if not data:
            return
        request = pickle.loads(data)
        if isinstance(request, int):
            _, status = os.waitpid(request, 0)  # the server asks once for each
            requests.send(pickle.dumps(os.waitstatus_to_exitcode(status)))
            continue
        pid = os.fork()
        if pid == 0:
            requests.close()
            _end_with_parent()
            _exit_after(target, *request, Connection(descriptors[0]))
        os.close(descriptors[0])
        requests.send(pickle.dumps(pid))


def _exit_after(run: Callable[..., None], *arguments: Any) -> None:
    status = 1
    try:
        run(*arguments)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        # No handlers of the process that this one was copied from.
        os._exit(status)


def _end_with_parent() -> None:
    """Makes the kernel end this process with its parent, even one that is paused (Linux; elsewhere it sees the end)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
