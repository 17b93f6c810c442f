"""Tests of lines, shards and results: pure, without a model."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from components.batch_tagging.records import Record, TaggedEntity, TaggedRecord, encode, is_json_lines, parse_line
from components.batch_tagging.shards import BatchError, InputFile, cut, find_files, read_lines


@pytest.mark.parametrize(
    ("line", "record"),
    [
        pytest.param(b'{"text": "a", "id": 7}', Record("a", "7"), id="text and id"),
        pytest.param(b'{"text": ""}', Record(""), id="empty text"),
        pytest.param("\ufeff{\"text\": \"小明\"}".encode(), Record("小明"), id="byte order mark"),
        pytest.param(b'{"text": 3}', Record(error="expected a JSON object with a string in 'text'"), id="a number"),
        pytest.param(b"[]", Record(error="expected a JSON object with a string in 'text'"), id="a list"),
        pytest.param(b'"\xff"', Record(error="expected UTF-8; byte 2 of the line is not"), id="no UTF-8"),
    ],
)  # fmt: skip
def test_json_lines(line: bytes, record: Record) -> None:
    assert parse_line(line, json_lines=True) == record


def test_a_line_that_is_no_json_says_why() -> None:
    error = parse_line(b'{"text": ', json_lines=True).error
    assert error is not None
    assert error.startswith("expected a JSON object: ")


def test_plain_lines_are_texts() -> None:
    assert parse_line(b'{"text": "a"}', json_lines=False) == Record('{"text": "a"}')


@pytest.mark.parametrize(
    ("path", "input_format", "expected"),
    [
        ("a.txt", "auto", False),
        ("a.jsonl", "auto", True),
        ("a.jsonl.gz", "auto", True),
        ("a.txt.gz", "auto", False),
        ("a.txt", "json_lines", True),
        ("a.jsonl", "text", False),
    ],
)
def test_formats(path: str, input_format: str, expected: bool) -> None:
    assert is_json_lines(path, input_format) is expected


RECORDS = [
    TaggedRecord(Record("小明住北京", "1"), (TaggedEntity(0, 2, "PER", "小明", 0.12345678),)),
    TaggedRecord(Record("\ud800", None)),
    TaggedRecord(Record(error="no text")),
]


def test_results_as_json_lines() -> None:
    lines = [json.loads(line) for line in encode(RECORDS, "json_lines").decode("utf-8").splitlines()]
    entity = {"start": 0, "end": 2, "type": "PER", "text": "小明", "score": 0.1234568}
    assert lines[0] == {"id": "1", "text": "小明住北京", "entities": [entity]}
    assert set(lines[1]) == {"text", "entities"}
    assert lines[2] == {"error": "no text"}


def test_results_as_parquet() -> None:
    table = parquet.read_table(io.BytesIO(encode([RECORDS[0], RECORDS[2]], "parquet"))).to_pylist()
    assert table[0]["entities"][0]["text"] == "小明"
    assert table[0]["id"] == "1"
    assert table[1] == {"id": None, "text": None, "entities": None, "error": "no text"}


def test_compressed_files_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n" * 100))
    (shard,) = cut(find_files([str(path)]), 10)
    assert list(read_lines(shard)) == [b"one", b"two"] * 100


def test_a_pattern_without_files(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="no such file"):
        find_files([str(tmp_path / "*.txt")])


def test_numbers_of_shards_follow_the_input() -> None:
    shards = cut([InputFile("a", 5, 0.0), InputFile("b.gz", 9, 0.0), InputFile("c", 0, 0.0), InputFile("d", 3, 0.0)], 3)
    assert [(shard.number, shard.path, shard.start, shard.end) for shard in shards] == [
        (0, "a", 0, 3),
        (1, "a", 3, 5),
        (2, "b.gz", 0, None),
        (3, "d", 0, 3),
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))), st.integers(1, 9)
)
def test_every_line_is_in_exactly_one_shard(tmp_path: Path, lines: list[bytes], shard_bytes: int) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    shards = cut([InputFile(str(path), path.stat().st_size, 0.0)], shard_bytes)
    assert [line for shard in shards for line in read_lines(shard)] == lines
