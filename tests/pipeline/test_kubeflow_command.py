"""Tests of `fusion-ner kubeflow`: what users see, against the fake API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.command_line import main
from pipeline.commands.kubeflow import HOST_VARIABLE
from tests.kubeflow.conftest import pipeline_document as _pipeline_document
from tests.kubeflow.fake_api import FakeApi, FakeServer

Document = dict[str, Any]
ROOT = ["--pipeline-root", "s3://bucket/ner"]

pipeline_document = _pipeline_document


@pytest.fixture
def file(tmp_path: Path, pipeline_document: Document) -> str:
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(pipeline_document), encoding="utf-8")
    return str(path)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    api = FakeApi()
    with FakeServer(api) as server:
        monkeypatch.setenv(HOST_VARIABLE, server.host)
        yield api


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        status = main(["kubeflow", *words])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_from_submission_to_deletion(fake: FakeApi, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(capsys, "list") == (0, "Schedules: none\nRuns: none\n", "")
    status, out, _ = _run(capsys, "submit", file, *ROOT, "--run-name", "first", "-p", "data=/corpus")
    assert status == 0
    assert "version tiny-ner: uploaded" in out
    assert "run first: created" in out
    assert fake.runs[0]["runtime_config"]["parameters"] == {"data": "/corpus"}

    words = ["schedule", file, *ROOT, "--name", "weekly", "--cron", "0 3 * * 1"]
    status, out, _ = _run(capsys, *words)
    assert status == 0
    assert "0 0 3 * * 1: at 03:00 on Monday" in out
    assert "version tiny-ner: unchanged" in out
    assert "schedule weekly: created" in out
    assert "schedule weekly: unchanged" in _run(capsys, *words)[1]

    status, out, _ = _run(capsys, "list", "--json")
    listed = json.loads(out)
    (schedule,) = listed["schedules"]
    assert (schedule["name"], schedule["status"], schedule["cron"]) == ("weekly", "ENABLED", "0 0 3 * * 1")
    assert (schedule["meaning"], schedule["concurrency"], schedule["catch_up"]) == ("at 03:00 on Monday", 1, False)
    assert [run["name"] for run in listed["runs"]] == ["first"]
    assert "weekly" in _run(capsys, "list")[1]

    assert "schedule weekly: paused" in _run(capsys, "pause", "weekly")[1]
    assert "schedule weekly: resumed" in _run(capsys, "resume", "weekly")[1]
    assert "schedule weekly: deleted" in _run(capsys, "delete", "weekly")[1]
    assert fake.recurring_runs == []


def test_a_shifted_schedule_of_others_is_shown_as_it_fires(fake: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    fake.recurring_runs.append(
        {
            "recurring_run_id": "r",
            "display_name": "by hand",
            "status": "ENABLED",
            "experiment_id": "e",
            "trigger": {"cron_schedule": {"cron": "0 3 * * 1"}},
        }
    )
    (schedule,) = json.loads(_run(capsys, "list", "--json")[1])["schedules"]
    assert schedule["meaning"] == "minute 3 of every hour every day in January"


def test_a_dry_run_asks_no_server(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["schedule", file, *ROOT, "--name", "n", "--cron", "* * * * * *", "--dry-run"]
    status, out, err = _run(capsys, *words)
    assert (status, len(out.splitlines())) == (0, 2)
    assert "fires more than once a minute" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["schedule", "FILE", *ROOT, "--name", "n", "--cron", "0 3 31 2 *"], "never fires", id="cron"),
        pytest.param(
            ["schedule", "FILE", *ROOT, "--name", "n", "--cron", "@daily", "--concurrency", "11"],
            "expected 1 to 10", id="concurrency",
        ),
        pytest.param(["submit", "FILE", "--pipeline-root", "/data"], "no gs://, s3://, minio:// URI", id="local root"),
        pytest.param(["submit", "FILE", *ROOT, "-p", "epoch=3"], "one of the names: data", id="unknown parameter"),
        pytest.param(["submit", "nowhere.yaml", *ROOT], "nowhere.yaml", id="no file"),
        pytest.param(["pause", "nightly"], "no schedule named 'nightly'; there are: none", id="no such schedule"),
        pytest.param(["list", "--host", "kubeflow"], "no http:// or https:// URL", id="no URL"),
        pytest.param(["list", "--token-file", "nowhere"], "nowhere: no such file", id="no token"),
        pytest.param(["verify", "FILE", "-p", "data=/x"], "the command", id="not our command"),
        pytest.param(["verify", "FILE", "--mount", "/data=nowhere"], "an existing folder", id="no folder to mount"),
        pytest.param(
            ["compile", "--config", "c", "--image", "i:1", "--pipeline-root", "s3://b", "--output", "p.json"],
            "takes .yaml files only", id="JSON",
        ),
        pytest.param(
            ["compile", "--config", "c", "--image", "i", "--pipeline-root", "s3://b", "--output", "p.yaml"],
            "is not pinned", id="no tag",
        ),
        pytest.param(
            ["compile", "--config", "c", "--image", "i:1", "--pipeline-root", "s3://b", "--output", "p.yaml"],
            "the configuration c cannot be read", id="no configuration",
        ),
    ],
)  # fmt: skip
def test_mistakes_of_the_user(
    fake: FakeApi,
    file: str,
    words: list[str],
    message: str,
    pipeline_document: Document,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if words[0] == "verify":
        pipeline_document["deploymentSpec"]["executors"]["ExampleGen_executor"]["container"]["command"] = ["sh"]
        Path(file).write_text(yaml.safe_dump(pipeline_document), encoding="utf-8")
    status, _, err = _run(capsys, *[file if word == "FILE" else word for word in words])
    assert status == 2
    assert message in err
    assert fake.runs == fake.recurring_runs == []


def test_without_a_host(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(HOST_VARIABLE, raising=False)
    status, _, err = _run(capsys, "list")
    assert (status, "give --host" in err) == (2, True)


def test_a_server_that_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = _run(capsys, "list", "--host", "http://127.0.0.1:1", "--timeout", "0.3")
    assert status == 1
    assert "no answer within 0.3 s" in err
    assert "Traceback" not in err
