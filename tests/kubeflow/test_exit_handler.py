"""Tests of what is reported at the end of a run, and of who takes it."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.error
from collections.abc import Iterator

import pytest
from tfx.dsl.components.base import base_executor

from kubeflow import exit_handler


@pytest.mark.parametrize(
    ("status", "state", "succeeded", "error"),
    [
        pytest.param({"state": "COMPLETE", "error": {}}, "COMPLETE", True, "", id="done"),
        pytest.param({"state": "FAILED", "error": {"message": "no data"}}, "FAILED", False, "no data", id="failed"),
        pytest.param({}, "UNKNOWN", False, "", id="nothing known"),
    ],
)
def test_summary(status: dict[str, object], state: str, succeeded: bool, error: str) -> None:
    assert exit_handler.summary(json.dumps(status), "weekly-1", "id") == {
        "run": "weekly-1",
        "run_id": "id",
        "state": state,
        "succeeded": succeeded,
        "error": error,
    }


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    """A server that keeps what is posted to /take and refuses anything else."""
    taken: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/take":
                taken.append(body)
            self.send_response(204 if self.path == "/take" else 500)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Keeps the output of the tests clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    server.server_close()
    thread.join()


def _run(notify_url: str) -> None:
    executor = exit_handler.report_end_Executor(base_executor.BaseExecutor.Context())
    status = json.dumps({"state": "COMPLETE"})
    executor.Do({}, {}, {"final_status": status, "run_name": "r", "run_id": "i", "notify_url": notify_url})


def test_the_report_is_printed_and_posted(
    receiver: tuple[str, list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, taken = receiver
    _run(f"{url}/take")
    (body,) = taken
    assert json.loads(body) == json.loads(capsys.readouterr().out)
    assert json.loads(body)["succeeded"] is True


def test_a_report_that_nobody_takes_fails_the_task(receiver: tuple[str, list[bytes]]) -> None:
    with pytest.raises(urllib.error.HTTPError):
        _run(f"{receiver[0]}/elsewhere")
