"""Settings of the infra validation: which server, which requests, how long to wait."""

from __future__ import annotations

import dataclasses
from typing import Literal

from components.settings import check


@dataclasses.dataclass(frozen=True)
class InfraValidatorSettings:
    """How a candidate is tried on a model server before it may be pushed.

    Args:
        server: `tensorflow_model_server` ($TENSORFLOW_MODEL_SERVER or PATH), the `embedded` server of this project, or
            `auto`: the first if it is found.
        split: the split of the examples that gives the sentences.
        deployment: the device whose batching parameters TensorFlow Serving is tried with, as in production; the trial
            itself runs on the processor. A warm-up request that they do not allow refuses the model on any server.
        texts: how many sentences are sent in each batch size.
        batch_sizes: texts of one request; each size is tried with the same sentences, repeated where they are too few.
        tolerance: how far floats of server and model may differ, absolute and relative; whole numbers and strings have
            to be equal.
        load_seconds: how long the server may take to load the model and answer its warm-up requests; generous,
            because a server that ends is noticed at once, and a busy machine must not refuse a good model.
        request_seconds: how long one request may take.
        maximum_milliseconds: the longest median time of a request with one text; None sets no bound.

    Raises:
        SettingsError: a value is impossible.
    """

    server: Literal["auto", "tensorflow_model_server", "embedded"] = "auto"
    split: str = "dev"
    deployment: Literal["cpu", "gpu"] = "cpu"
    texts: int = 64
    batch_sizes: tuple[int, ...] = (1, 8, 64)
    tolerance: float = 1e-4
    load_seconds: float = 600.0
    request_seconds: float = 120.0
    maximum_milliseconds: float | None = None

    def __post_init__(self) -> None:
        servers = ("auto", "tensorflow_model_server", "embedded")
        check(self.server in servers, "server", f"one of {', '.join(servers)}", self.server)
        check(bool(self.split), "split", "the name of a split", self.split)
        check(self.deployment in ("cpu", "gpu"), "deployment", "cpu or gpu", self.deployment)
        check(self.texts > 0, "texts", "a positive number", self.texts)
        sizes = self.batch_sizes
        check(bool(sizes) and all(size > 0 for size in sizes), "batch_sizes", "positive numbers", sizes)
        check(0 <= self.tolerance < 1, "tolerance", "a number from 0 to below 1", self.tolerance)
        for name in ("load_seconds", "request_seconds"):
            value = getattr(self, name)
            check(value > 0, name, "a positive number of seconds", value)
        bound = self.maximum_milliseconds
        check(bound is None or bound > 0, "maximum_milliseconds", "a positive number of milliseconds or none", bound)
