from __future__ import annotations

import io
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "serving"))

from fake_server import FakeServer, run_fake_server

from pipeline.command_line import main


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with run_fake_server() as server:
        yield server


def _tag(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[Any], str]:
    status = main(["tag", *map(str, words)])
    output = capsys.readouterr()
    return status, [json.loads(line) for line in output.out.splitlines()], output.err


def test_texts_as_arguments(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, errors = _tag(capsys, "--target", fake.target, "去 WHO 2 次", "")

    assert (status, errors) == (0, "")
    assert lines == [
        {
            "text": "去 WHO 2 次",
            "entities": [
                {"start": 2, "end": 5, "type": "CAP", "text": "WHO", "score": 0.5},
                {"start": 6, "end": 7, "type": "NUM", "text": "2", "score": 0.5},
            ],
        },
        {"text": "", "entities": []},
    ]


def test_output_is_readable_chinese(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    main(["tag", "--target", fake.target, "小明"])

    assert capsys.readouterr().out == '{"text": "小明", "entities": []}\n'


def test_lone_surrogate_is_written_escaped(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    # What the shell passes for bytes that are no UTF-8.
    assert _tag(capsys, "--target", fake.target, "\udcff A")[1][0]["entities"][0]["start"] == 2


def test_file_with_one_text_a_line(fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "texts"
    # A line ends at a newline only; other separators belong to the text. The byte-order mark does not.
    file.write_bytes("\ufeffA\u2028B\r\n\nno newline at the end".encode())

    status, lines, _ = _tag(capsys, "--target", fake.target, "--input", file)

    assert status == 0
    assert [line["text"] for line in lines] == ["A\u2028B", "", "no newline at the end"]


@pytest.mark.parametrize("options", [["--input", "-"], []], ids=["asked for", "by default"])
def test_standard_input(
    fake: FakeServer, options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("一 A\n二\n".encode())))

    status, lines, _ = _tag(capsys, "--target", fake.target, *options)

    assert status == 0
    assert [line["text"] for line in lines] == ["一 A", "二"]


def test_large_input_keeps_its_order(fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"text {number}" for number in range(1000)]
    file = tmp_path / "texts"
    file.write_text("\n".join(texts))

    _, lines, _ = _tag(capsys, "--target", fake.target, "--input", file)

    assert [line["text"] for line in lines] == texts
    assert len(fake.requests) == 16, "64 texts a request"


def test_model_and_version(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    _tag(capsys, "--target", fake.target, "--model-name", "news", "--model-version", 3, "A")

    assert (fake.requests[0].model_spec.name, fake.requests[0].model_spec.version.value) == ("news", 3)


def test_pretty(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tag", "--target", fake.target, "--pretty", "去 WHO 次"]) == 0

    assert capsys.readouterr().out == "去 WHO[CAP 0.50] 次\n"


def test_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    status, lines, errors = _tag(capsys, "--target", f"localhost:{port}", "--timeout", 1, "A")

    assert time.monotonic() - started < 2
    assert (status, lines) == (1, [])
    assert errors.startswith(f"fusion-ner tag: no model server answers at localhost:{port}: ")


def test_model_that_is_not_there(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.failures = [(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(ner)")]

    status, _, errors = _tag(capsys, "--target", fake.target, "A")

    assert status == 1
    assert f"{fake.target} does not serve model 'ner'" in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--input", "nowhere.txt"], "--input: expected a file; 'nowhere.txt' is none", id="no file"),
        pytest.param(["--input", "-", "text"], "expected texts as arguments or --input, not both", id="both"),
        pytest.param(["--timeout", "0", "text"], "timeout: expected a positive number of seconds", id="timeout"),
        pytest.param(
            ["--model-version=1", "--version-label=x", "text"], "not both; received 1 and 'x'", id="selection"
        ),
        pytest.param(["--root-certificates", "nowhere.pem", "text"], "nowhere.pem", id="no certificate"),
    ],
)
def test_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = _tag(capsys, *words)

    assert status == 2
    assert message in errors


def test_refuses_other_encodings(fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "texts"
    file.write_bytes(b"good\n" + "小明".encode("gbk") + b"\n")

    status, _, errors = _tag(capsys, "--target", fake.target, "--input", file)

    assert status == 2
    assert f"{file}:2: expected UTF-8; byte 3 of the line is not" in errors
