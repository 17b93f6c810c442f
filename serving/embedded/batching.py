"""Merges the requests that wait while runs are under way into few runs, as TensorFlow Serving's batching does.

TensorFlow has kernels for this (`BatchFunction`), but they live in a graph: each loaded signature would have to be
wrapped in a graph of its own, and a lone request would wait out their timeout. A queue in front of the session needs
neither. A request that finds a run free starts at once, in the thread that brought it; what arrives meanwhile runs
together afterwards.

Two runs are under way at once. One run leaves a core idle wherever an op is too small to be divided, and while its
answers are written; two runs of 8 sentences made 1.06 to 1.15 times what one of 16 made. Each takes a third of what the
clients have outstanding, so that the next run is ready when one ends: with halves, 18 % of the time saw only one run,
because the clients that the other had answered were still on their way back.

Only the tagger's own signature is merged: its rows do not depend on each other, which nothing in a SignatureDef tells.
TensorFlow Serving would divide the outputs by rows and leave the width E that the merged run made; here E is cut to
what the request alone would have got, so that merging shows in nothing but the time it takes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from components import features

RUNS = 2
_SHARES = RUNS + 1

# Larger runs are hardly faster for each text, and make their first text wait.
_MOST_ROWS = 64
# Keeps long texts out of the way of short ones, and a merged run's memory near that of a single request.
_MOST_BYTES = 16 * 1024


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
        run: takes texts [B] and returns an array for each output, [B] or [B, E], as the tagger does.
        count_position: which of the outputs is entity_count.
        runs: how many runs may be under way at once.
        shares: among how many runs the requests that clients have outstanding are divided.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], Sequence[Any]],
        count_position: int,
        runs: int = RUNS,
        shares: int = _SHARES,
    ) -> None:
        self._run = run
        self._count_position = count_position
        self._runs = runs
        self._shares = shares
        self._waiting: deque[_Request] = deque()
        self._changing = threading.Lock()
        # Of each run under way, how many requests it has.
        self._running: list[int] = []
        # How many requests were answered and not followed by new ones since all runs stood still: clients that are
        # about to come back.
        self._returning = 0
        # Writes answers while the thread that ran them runs what waits.
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="answers")

    def submit(self, texts: np.ndarray) -> Future[Sequence[Any]]:
        """Queues a request that `is_mergeable`; its future gives what `run` returns for `texts`, with the same errors.

        Somebody has to call `run_waiting` afterwards. A future that is cancelled before its run has begun is not run.
        """
        request = _Request(texts)
        with self._changing:
            self._waiting.append(request)
            self._returning = max(self._returning - 1, 0)
        return request.outputs

    def run_waiting(self) -> None:
        """Runs what waits and what comes meanwhile, in this thread, unless enough runs are under way already."""
        while (batch := self._take()) is not None:
            answers = self._run_batch([request for request in batch if request.outputs.set_running_or_notify_cancel()])
            with self._changing:
                self._running.remove(len(batch))
                self._returning += len(batch)
                others_wait = bool(self._waiting)
            if others_wait:
                self._answering.submit(_answer, answers)
            else:
                _answer(answers)

    def _take(self) -> list[_Request] | None:
        """Returns a run's share of what waits, in its order; None to run nothing."""
        with self._changing:
            if not self._waiting or len(self._running) == self._runs:
                if not self._running:
                    self._returning = 0
                return None
            share = -(-(len(self._waiting) + sum(self._running) + self._returning) // self._shares)
            batch = [self._waiting.popleft()]
            rows, size = batch[0].rows, batch[0].size
            while self._waiting and len(batch) < share:
                following = self._waiting[0]
                rows, size = rows + following.rows, size + following.size
                if rows > _MOST_ROWS or size > _MOST_BYTES:
                    break
                batch.append(self._waiting.popleft())
            self._running.append(len(batch))
        return batch

    def _run_batch(self, batch: list[_Request]) -> list[tuple[_Request, Sequence[Any] | Exception]]:
        """Returns each request with its outputs or its error."""
        if len(batch) > 1:
            merged = self._run_merged(batch)
            if merged is not None:
                return list(zip(batch, merged, strict=True))
        answers: list[tuple[_Request, Sequence[Any] | Exception]] = []
        for request in batch:
            try:
                answers.append((request, self._run(request.texts)))
            except Exception as error:
                answers.append((request, error))
        return answers

    def _run_merged(self, batch: list[_Request]) -> list[Sequence[Any]] | None:
        """Runs several requests as one; returns the outputs of each, None if that cannot answer them."""
        try:
            outputs = self._run(np.concatenate([request.texts for request in batch]))
        except Exception:
            return None  # each request runs alone and gets an error of its own, if it was the cause
        total = sum(request.rows for request in batch)
        if any(np.shape(output)[:1] != (total,) for output in outputs):
            return None
        start = 0
        parts: list[Sequence[Any]] = []
        for request in batch:
            end = start + request.rows
            width = outputs[self._count_position][start:end].max()
            parts.append([output[start:end] if output.ndim == 1 else output[start:end, :width] for output in outputs])
            start = end
        return parts


def _answer(answers: Sequence[tuple[_Request, Sequence[Any] | Exception]]) -> None:
    """Sets the futures, whose callbacks write the answers."""
    for request, outputs in answers:
        if isinstance(outputs, Exception):
            request.outputs.set_exception(outputs)
        else:
            request.outputs.set_result(outputs)
