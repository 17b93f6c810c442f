"""Merges the requests that wait while runs are under way into few runs, as TensorFlow Serving's batching does.

TensorFlow has kernels for this (`BatchFunction`), but they live in a graph: each loaded signature would have to be
wrapped in a graph of its own, and a lone request would wait out their timeout. A queue in front of the session needs
neither. A request that finds a run free starts at once, and what arrives meanwhile runs together afterwards. Only
after a merged run is there a short wait, for the clients that it answered and that may be about to come back; a lone
client never meets it.

Two runs are under way at once, each with half of the requests. One run leaves a core idle wherever an op is too small
to be divided, and while its answers are written; two runs of 8 sentences made 1.1 to 1.2 times what one of 16 made.

Only the tagger's own signature is merged: its rows do not depend on each other, which nothing in a SignatureDef tells.
TensorFlow Serving would divide the outputs by rows and leave the width E that the merged run made; here E is cut to
what the request alone would have got, so that merging shows in nothing but the time it takes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from components import features

RUNS = 2

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


def is_mergeable(texts: np.ndarray) -> bool:
    """Returns whether a request with these texts may run with others: a list of few and short ones."""
    return texts.ndim == 1 and 0 < len(texts) <= _MOST_ROWS and sum(map(len, texts)) <= _MOST_BYTES


class _Request:
    def __init__(self, texts: np.ndarray) -> None:
        self.texts = texts
        self.rows = len(texts)
        self.size = sum(map(len, texts))
        self.outputs: Future[Sequence[Any]] = Future()


class Batcher:
    """Runs the texts of one or several requests together; thread-safe.

    A merged run that fails, or does not answer with one row for each row it was given, is repeated request by request,
    so that no request fails for another's sake.

    Args:
        run: takes texts [B] and whether it is the only run under way, and returns an array for each output, [B] or
            [B, E], as the tagger does.
        count_position: which of the outputs is entity_count.
        runs: how many runs may be under way at once; each has a thread of its own.
    """

    def __init__(self, run: Callable[[np.ndarray, bool], Sequence[Any]], count_position: int, runs: int = RUNS) -> None:
        self._run = run
        self._count_position = count_position
        self._runs = runs
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        # Of each run under way, how many requests it has.
        self._running: list[int] = []
        # How many requests were just answered in merged runs, by threads that wait for as many.
        self._returning = 0
        for number in range(runs):
            threading.Thread(target=self._work, name=f"run-{number}", daemon=True).start()

    def submit(self, texts: np.ndarray) -> Future[Sequence[Any]]:
        """Queues a request that `is_mergeable`; its future gives what `run` returns for `texts`, with the same errors.

        A future that is cancelled before its run has begun is not run.
        """
        request = _Request(texts)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
        return request.outputs

    def _work(self) -> None:
        count, wait_until = 1, 0.0
        while True:
            batch, alone = self._gather(count, wait_until)
            start = time.monotonic()
            try:
                self._run_batch([request for request in batch if request.outputs.set_running_or_notify_cancel()], alone)
            finally:
                with self._changed:
                    self._running.remove(len(batch))
            count, end = len(batch), time.monotonic()
            wait_until = end + _RETURN_SHARE * (end - start)

    def _gather(self, count: int, wait_until: float) -> tuple[list[_Request], bool]:
        """Waits for requests and takes this run's share of them, in their order; tells whether no other run goes on.

        Args:
            count: the requests of this thread's last run; after a merged one it waits for as many ..
            wait_until: .. until then.
        """
        with self._changed:
            if count > 1:
                self._returning += count
                while len(self._waiting) < self._returning and (remaining := wait_until - time.monotonic()) > 0:
                    self._changed.wait(remaining)
                self._returning -= count
            while not self._waiting:
                self._changed.wait()
            share = -(-(len(self._waiting) + sum(self._running)) // self._runs)
            batch = [self._waiting.popleft()]
            rows, size = batch[0].rows, batch[0].size
            while self._waiting and len(batch) < share:
                following = self._waiting[0]
                rows, size = rows + following.rows, size + following.size
                if rows > _MOST_ROWS or size > _MOST_BYTES:
                    break
                batch.append(self._waiting.popleft())
            alone = not self._running
            self._running.append(len(batch))
        return batch, alone

    def _run_batch(self, batch: list[_Request], alone: bool) -> None:
        if len(batch) > 1 and self._run_merged(batch, alone):
            return
        for request in batch:
            try:
                request.outputs.set_result(self._run(request.texts, alone))
            except Exception as error:
                request.outputs.set_exception(error)

    def _run_merged(self, batch: list[_Request], alone: bool) -> bool:
        """Runs several requests as one; returns whether that answered them."""
        try:
            outputs = self._run(np.concatenate([request.texts for request in batch]), alone)
        except Exception:
            return False  # each request runs alone and gets an error of its own, if it was the cause
        total = sum(request.rows for request in batch)
        if any(np.shape(output)[:1] != (total,) for output in outputs):
            return False
        start = 0
        for request in batch:
            end = start + request.rows
            width = outputs[self._count_position][start:end].max()
            request.outputs.set_result(
                [output[start:end] if output.ndim == 1 else output[start:end, :width] for output in outputs]
            )
            start = end
        return True
