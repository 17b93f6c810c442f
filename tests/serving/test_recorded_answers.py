"""The server answers 455 recorded requests, steps and starts as TensorFlow Serving 2.16.1 did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from recorded_answers import RECORDS, SETUPS, is_same, replay_setup
from server_processes import Launcher

# What the embedded server does otherwise, and why. Nothing else may differ, and each of these must.
_HEAD = "uvicorn tells the length of an empty answer to HEAD too"
_LOG = "the cause stands in a log line of its own, not in one of the C++ library's"
DIFFERENCES = {
    "plain/rest/HEAD status": _HEAD,
    "plain/rest/HEAD unknown path": _HEAD,
    "signals/SIGTERM ends the process at once": "requests under way finish first, then the status is 0",
    "startup/REST port in use": _LOG,
    "startup/model config file bad text": _LOG,
}

# Those that wait longest go first.
_SLOW = ("retries", "startup", "versions", "failed_again", "reload", "blocked")

SETUP_NAMES = sorted({record["setup"] for record in RECORDS})


@pytest.fixture(scope="module")
def replays(launcher: Launcher, models: Path) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """The answers of every set-up; the set-ups mostly wait, so they run side by side."""
    order = [*_SLOW, *(name for name in SETUP_NAMES if name not in _SLOW)]
    with ThreadPoolExecutor(6) as pool:
        yield {name: pool.submit(replay_setup, launcher, name, models) for name in order}


@pytest.mark.parametrize("setup", SETUP_NAMES)
def test_answers_as_recorded(
    replays: dict[str, Future[dict[str, Any]]], setup: str, request: pytest.FixtureRequest
) -> None:
    answers = replays[setup].result()
    differing = {
        record["name"]: (record, answers[record["name"]])
        for record in RECORDS
        if record["setup"] == setup and not is_same(record, answers[record["name"]])
    }
    embedded = request.node.callspec.params["launcher"] == "embedded"
    expected = {name for name in DIFFERENCES if embedded and name.split("/")[0] == setup}
    report = [
        f"{name}\n  recorded {json.dumps(record['answer'])[:1500]}\n  received {json.dumps(answer)[:1500]}"
        for name, (record, answer) in differing.items()
        if name not in expected
    ]
    assert not report, "\n".join(report)
    assert set(differing) == expected, "a listed difference is none: take it off the list"


def test_every_setup_is_described() -> None:
    assert set(SETUP_NAMES) - {"startup"} <= set(SETUPS)
    assert {name.split("/")[0] for name in DIFFERENCES} <= set(SETUP_NAMES)
