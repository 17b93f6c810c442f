"""Merges the requests that wait while a run is under way into one run, as TensorFlow Serving's batching does.

TensorFlow has kernels for this (`BatchFunction`), but they live in a graph: each loaded signature would have to be
wrapped in a graph of its own, and a lone request would wait out their timeout. A queue in front of the session needs
neither. A request that finds the session idle runs at once, and what arrives meanwhile runs together afterwards. Only
after a merged run is there a short wait, for the clients that it answered and that may be about to come back; a lone
client never meets it. No thread is added, since one of the waiting requests leads each run.

Only the tagger's own signature is merged: its rows do not depend on each other, which nothing in a SignatureDef tells.
TensorFlow Serving would divide the outputs by rows and leave the width E that the merged run made; here E is cut to
what the request alone would have got, so that merging shows in nothing but the time it takes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from components import features

# Larger runs are hardly faster for each text, and make their first text wait.
_MOST_ROWS = 64
# Keeps long texts out of the way of short ones, and a merged run's memory near that of a single request.
_MOST_BYTES = 16 * 1024
# The longest wait for clients to come back, as a share of the merged run that answered them. Without it runs of one
# request and of all others take turns; with 16 clients it was worth 6 % of throughput.
_RETURN_SHARE = 0.15


def is_tagger(signature: Any) -> bool:
    """Returns whether a SignatureDef is that of the tagger: texts [B] in, entities [B] and [B, E] out."""

    def rank(info: Any) -> int | None:
        known = not info.tensor_shape.unknown_rank
        return len(info.tensor_shape.dim) if known and all(dim.size == -1 for dim in info.tensor_shape.dim) else None

    return (
        {name: rank(info) for name, info in signature.inputs.items()} == {features.TEXT: 1}
        and features.ENTITY_COUNT in signature.outputs
        and all(rank(info) == 1 + (name != features.ENTITY_COUNT) for name, info in signature.outputs.items())
    )


class _Request:
    def __init__(self, texts: np.ndarray, size: int) -> None:
        self.texts = texts
        self.rows = len(texts)
        self.size = size
        self.woken = threading.Event()
        # Set before it is woken: that it leads the next run, or its outputs; neither means that it runs alone.
        self.leads = False
        self.outputs: list[Any] | None = None


class Batcher:
    """Calls `run` with the texts of one or several requests; thread-safe, called by each request's own thread.

    A merged run that fails, or does not answer with one row for each row it was given, is repeated request by request,
    so that no request fails for another's sake.

    Args:
        run: takes texts [B] and returns an array for each output, [B] or [B, E], as the tagger does.
        count_position: which of the outputs is entity_count.
        runs: how many merged runs may be under way at once; so many large requests, too, which are never merged.
    """

    def __init__(self, run: Callable[..., Sequence[Any]], count_position: int, runs: int = 1) -> None:
        self._run = run
        self._count_position = count_position
        self._runs = runs
        self._running = 0
        self._waiting: deque[_Request] = deque()
        self._lock = threading.Condition()
        # The last run: how many requests it had, and until when to wait for as many.
        self._last_count = 1
        self._wait_until = 0.0
        self._large = threading.Semaphore(runs)

    def __call__(self, texts: np.ndarray) -> Sequence[Any]:
        """Returns what `run` returns for `texts`, with the same errors."""
        if texts.ndim != 1 or not len(texts):  # the session knows what to say
            return self._run(texts)
        size = sum(map(len, texts))
        if len(texts) > _MOST_ROWS or size > _MOST_BYTES:
            with self._large:
                return self._run(texts)
        request = _Request(texts, size)
        with self._lock:
            idle = self._running < self._runs
            if idle:
                self._running += 1
            else:
                self._waiting.append(request)
                self._lock.notify_all()
        if not idle:
            request.woken.wait()
        if idle or request.leads:
            return self._lead(request)
        return self._run(texts) if request.outputs is None else request.outputs

    def _lead(self, leader: _Request) -> Sequence[Any]:
        """Runs `leader`, the caller's request, with what waits; then appoints the next leader and wakes the others."""
        batch = self._gather(leader)
        start = time.monotonic()
        try:
            if len(batch) == 1:
                return self._run(leader.texts)
            self._run_merged(batch)
        finally:
            end = time.monotonic()
            self._appoint_next(len(batch), end + _RETURN_SHARE * (end - start))
            for request in batch[1:]:
                request.woken.set()
        return self._run(leader.texts) if leader.outputs is None else leader.outputs

    def _run_merged(self, batch: list[_Request]) -> None:
        try:
            outputs = self._run(np.concatenate([request.texts for request in batch]))
        except Exception:
            return  # each request runs alone and gets an error of its own, if it was the cause
        total = sum(request.rows for request in batch)
        if any(np.shape(output)[:1] != (total,) for output in outputs):
            return
        start = 0
        for request in batch:
            end = start + request.rows
            width = outputs[self._count_position][start:end].max()
            request.outputs = [
                output[start:end] if output.ndim == 1 else output[start:end, :width] for output in outputs
            ]
            start = end

    def _appoint_next(self, count: int, wait_until: float) -> None:
        with self._lock:
            self._last_count, self._wait_until = count, wait_until
            if not self._waiting:
                self._running -= 1
                return
            leader = self._waiting.popleft()
        leader.leads = True
        leader.woken.set()

    def _gather(self, leader: _Request) -> list[_Request]:
        """Returns `leader` and the waiting requests that fit behind it, in their order."""
        batch = [leader]
        rows, size = leader.rows, leader.size
        with self._lock:
            while self._last_count > 1 + len(self._waiting):
                remaining = self._wait_until - time.monotonic()
                if remaining <= 0:
                    break
                self._lock.wait(remaining)
            while self._waiting:
                following = self._waiting[0]
                rows, size = rows + following.rows, size + following.size
                if rows > _MOST_ROWS or size > _MOST_BYTES:
                    break
                batch.append(self._waiting.popleft())
        return batch
