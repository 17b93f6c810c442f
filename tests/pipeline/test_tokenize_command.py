from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.command_line import main

VOCABULARY = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n北\n京\n，\ncafe\nCafé\n"


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    (tmp_path / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    return str(tmp_path / "vocab.txt")


def answers(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def answer(tokens: list[str], ids: list[int], offsets: list[list[int]]) -> dict[str, Any]:
    return {"tokens": tokens, "ids": ids, "offsets": offsets}


def test_a_text_a_line(tmp_path: Path, vocabulary: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").write_bytes("北京，Café\n\n北\r京\u2028cafe".encode())
    assert main(["tokenize", "--vocab", vocabulary, str(tmp_path / "texts")]) == 0
    assert answers(capsys) == [
        answer(["北", "京", "，", "cafe"], [4, 5, 6, 7], [[0, 1], [1, 2], [2, 3], [3, 7]]),
        answer([], [], []),
        answer(["北", "京", "cafe"], [4, 5, 7], [[0, 1], [2, 3], [4, 8]]),
    ]


def test_cased_json_lines_from_standard_input(
    vocabulary: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = '\ufeff{"text": "Café\\n北"}\n\n{"text": "\\ud83d\\ude00京", "id": 1}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert main(["tokenize", "--vocab", vocabulary, "--cased", "--jsonl"]) == 0
    assert answers(capsys) == [
        answer(["Café", "北"], [8, 4], [[0, 4], [5, 6]]),
        answer(["[UNK]", "京"], [1, 5], [[0, 1], [1, 2]]),
    ]


def test_many_texts_stay_in_order(tmp_path: Path, vocabulary: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").write_text("".join("北" * (number % 7) + "\n" for number in range(1000)), encoding="utf-8")
    assert main(["tokenize", "--vocab", vocabulary, str(tmp_path / "texts")]) == 0
    assert [len(line["ids"]) for line in answers(capsys)] == [number % 7 for number in range(1000)]


@pytest.mark.parametrize(
    ("options", "content", "answered", "message"),
    [
        pytest.param([], "北\n".encode() + "京".encode("gbk"), 1, ":2: not UTF-8 (byte 0xbe at column 1)", id="gbk"),
        pytest.param(["--jsonl"], b'{"text": "a"}\n{"text"\n', 1, ":2: not JSON", id="broken JSON"),
        pytest.param(["--jsonl"], b'{"text": 1}\n', 0, ':1: expected an object with a string "text"', id="no string"),
        pytest.param(["--jsonl"], b"[]\n", 0, 'a string "text"; received []', id="no object"),
        pytest.param(["--jsonl"], b"[" * 100_000, 0, ":1: ", id="deep nesting"),
        pytest.param(["--jsonl"], b'{"text": "a\\ud800b"}', 0, "surrogate, \\ud800, at code point 1", id="surrogate"),
    ],
)
def test_faulty_lines(
    tmp_path: Path,
    vocabulary: str,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    content: bytes,
    answered: int,
    message: str,
) -> None:
    (tmp_path / "texts").write_bytes(content)
    assert main(["tokenize", "--vocab", vocabulary, *options, str(tmp_path / "texts")]) == 2
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == answered
    assert message in output.err


@pytest.mark.parametrize(
    ("vocabulary_name", "input_name", "message"),
    [
        pytest.param("vocab.txt", "absent", "absent: cannot read the input: No such file", id="input"),
        pytest.param("absent", "vocab.txt", "absent: cannot read the vocabulary", id="vocabulary"),
        pytest.param("poor.txt", "vocab.txt", "poor.txt: the vocabulary of 1 tokens lacks [PAD]", id="poor"),
        pytest.param("vocab.txt", ".", "cannot read the input: Is a directory", id="folder"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path,
    vocabulary: str,
    capsys: pytest.CaptureFixture[str],
    vocabulary_name: str,
    input_name: str,
    message: str,
) -> None:
    (tmp_path / "poor.txt").write_text("a\n")
    assert main(["tokenize", "--vocab", str(tmp_path / vocabulary_name), str(tmp_path / input_name)]) == 2
    assert message in capsys.readouterr().err
