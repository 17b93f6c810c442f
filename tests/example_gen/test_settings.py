"""Settings of the data."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from components.example_gen.patterns import input_patterns
from components.example_gen.settings import DataSettings, ReadingSettings, check_files
from components.settings import SettingsError, parse_settings


def test_settings_come_from_a_mapping() -> None:
    values = {
        "train": "a",
        "dev": "b",
        "format": "conll",
        "ignore_types": ["OTH"],
        "tag_column": 2,
        "test_fraction": 0.2,
    }
    settings = parse_settings(DataSettings, values, "data")
    assert settings.files == {"train": "a", "dev": "b"}
    assert settings.reading == ReadingSettings(format="conll", ignore_types=("OTH",), tag_column=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({}, "data.train: this setting is required", id="no train"),
        pytest.param({"train": " "}, "train: expected the path of a file", id="blank path"),
        pytest.param({"train": "a", "format": "xml"}, "data.format: expected one of 'auto', 'conll'", id="format"),
        pytest.param({"train": "a", "scheme": "IO"}, "data.scheme: expected one of", id="scheme"),
        pytest.param(
            {"train": "a", "encoding": "utf-9"}, "encoding: expected the name of a text encoding", id="encoding"
        ),
        pytest.param({"train": "a", "encoding": "rot13"}, "encoding: expected", id="no text encoding"),
        pytest.param({"train": "a", "tag_column": 0}, "tag_column: expected a column counted from 1", id="column"),
        pytest.param({"train": "a", "token_column": 0}, "token_column: expected a column counted from 1", id="tokens"),
        pytest.param(
            {"train": "a", "token_column": 2, "tag_column": 2},
            "token_column: expected another column than tag_column; received 2",
            id="one column for both",
        ),
        pytest.param({"train": "a", "dev_fraction": 0}, "dev_fraction: expected a fraction", id="fraction"),
        pytest.param(
            {"train": "a", "dev_fraction": 0.5, "test_fraction": 0.5}, "so that training texts remain", id="all cut"
        ),
        pytest.param({"train": "a", "dve": "b"}, "data.dve: unknown setting. Did you mean 'dev'", id="misspelt"),
        pytest.param({"train": "{SPAN}/a", "dev": "b"}, "the same of {SPAN}", id="span in one only"),
        pytest.param({"train": "x*/{SPAN}/a"}, "cannot contain any of", id="pattern beside a span"),
        pytest.param({"train": "gs://x/a", "test": "b"}, "files of one file system", id="two file systems"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_settings(DataSettings, values, "data")


def test_python_values_are_checked_as_well() -> None:
    with pytest.raises(SettingsError, match="span_end: expected one of auto, exclusive, inclusive; received 'open'"):
        ReadingSettings(span_end="open")  # type: ignore[arg-type]


def test_check_files(tmp_path: Path) -> None:
    train = tmp_path / "train.txt"
    with pytest.raises(SettingsError, match=f"data.train: there is no file {train}"):
        check_files(DataSettings(str(train)))
    train.write_text("a O")
    check_files(DataSettings(str(train)))
    with pytest.raises(SettingsError, match=r"data.test: .* is a folder; give one file"):
        check_files(DataSettings(str(train), test=str(tmp_path)))
    check_files(DataSettings(str(tmp_path / "{SPAN}" / "train.txt")))
    check_files(DataSettings("gs://bucket/train.txt"))


def test_check_files_needs_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = tmp_path / "train.txt"
    train.write_text("a O")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # Not by chmod: root may read everything.
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(SettingsError, match="cannot be read: Permission denied; check its permissions"):
        check_files(DataSettings(str(train)))


@pytest.mark.parametrize(
    ("files", "base", "patterns"),
    [
        pytest.param({"train": "/d/a.txt"}, "/d", ["a.txt"], id="one"),
        pytest.param({"train": "/d/a.txt", "dev": "/d/b.txt"}, "/d", ["a.txt", "b.txt"], id="one folder"),
        pytest.param({"train": "/d/a/a.txt", "dev": "/d/b/b.txt"}, "/d", ["a/a.txt", "b/b.txt"], id="two folders"),
        pytest.param({"train": "/d/ab/a", "dev": "/d/ac/a"}, "/d", ["ab/a", "ac/a"], id="common letters are no folder"),
        pytest.param({"train": "/a/x", "dev": "/b/x"}, "/", ["a/x", "b/x"], id="nothing in common"),
        pytest.param({"train": "/d/[1]*/a?"}, "/d", ["[[]1][*]/a[?]"], id="special characters are escaped"),
        pytest.param({"train": "/d/s-{SPAN}/a"}, "/d", ["s-{SPAN}/a"], id="span"),
        pytest.param({"train": "gs://b/x/a", "dev": "gs://b/y/a"}, "gs://b", ["x/a", "y/a"], id="remote"),
        pytest.param({"train": "gs://b/a", "dev": "gs://c/a"}, "gs://", ["b/a", "c/a"], id="two buckets"),
    ],
)
def test_input_patterns(files: dict[str, str], base: str, patterns: list[str]) -> None:
    assert input_patterns(files) == (base, dict(zip(files, patterns, strict=True)))


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert input_patterns({"train": "data/../a.txt"}) == (os.getcwd(), {"train": "a.txt"})


@pytest.mark.parametrize(("name", "expected"), [("jsonl", "json_lines"), ("iob2", "conll"), ("conll", "conll")])
def test_formats_are_known_by_the_endings_of_their_files(name: Any, expected: str) -> None:
    assert ReadingSettings(format=name).format == expected
