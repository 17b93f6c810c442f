"""Files of any format and encoding."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.annotated_text import AnnotationError
from components.example_gen.decoding import decode_lines
from components.example_gen.reading import detect_format, parse_corpus, read_annotated_text
from components.example_gen.settings import ReadingSettings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"text": "a", "entities": []}', "json_lines", id="an object"),
        pytest.param('\n  {"a": 1}\n', "json_lines", id="an object after blank lines"),
        pytest.param('{"text": "broken\n{"text": "a"}', "json_lines", id="broken, but it begins like one"),
        pytest.param("Ada B-P\nis O", "conll", id="columns"),
        pytest.param("{ O\nAda B-P\n} O", "conll", id="a brace as the first token"),
        pytest.param("# text = {\n{\tO", "conll", id="a comment first"),
        pytest.param("[ O\nAda B-P", "conll", id="a bracket as the first token"),
    ],
)
def test_detect_format(text: str, expected: str) -> None:
    assert detect_format(text.split("\n"), "a") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "a:1: the corpus is empty", id="empty"),
        pytest.param(" \n\t\n", "a:1: the corpus is empty", id="blank"),
        pytest.param('[{"text": "a"}]', "one JSON array; expected one object a line", id="array"),
        pytest.param('[\n  {"text": "a"}\n]', "one JSON array", id="array on several lines"),
        pytest.param(
            '\n{\n  "text": "a",\n  "entities": []\n}\n{\n  "text": "b"\n}',
            "a:2: the JSON object stands on 4 lines .pretty-printed.; expected one object a line",
            id="pretty-printed objects",
        ),
        pytest.param('{"text": "a",\n "entities": [\n]}', "the JSON object stands on 3 lines", id="an object on lines"),
        pytest.param(
            "中/B-O 国/I-O 人/O\n我/O 在/O", "a:1: the tags stand inside the tokens, as in '中/B-O'", id="inline"
        ),
        pytest.param(
            "中/B-O\n国/I-O\n\n我/O", "one token a line with its tag in a column is expected", id="inline, alone"
        ),
        pytest.param("Ada\tB-P\ris\tO\r", "a:1: the lines end in CR alone, .*; expected LF or CRLF", id="CR"),
        pytest.param('{"text": "a", "label": []}\r{"text": "b", "label": []}', "end in CR alone", id="CR, JSON lines"),
    ],
)
def test_no_format(text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        parse_corpus(text.encode(), "a", ReadingSettings())


def test_a_wrong_encoding_is_named_with_byte_and_line() -> None:
    data = b"Ada B-P\n" + "北京 B-L\n".encode("gb18030")
    with pytest.raises(AnnotationError, match=r"a:2: byte 8 \(0xb1\) is not utf-8: .*\(the bytes fit gb18030\b"):
        parse_corpus(data, "a", ReadingSettings())
    assert parse_corpus(data, "a", ReadingSettings(encoding="gb18030")).texts[1:] == ()
    assert parse_corpus(data, "a", ReadingSettings(encoding="gb18030")).texts[0].text == "Ada 北京"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_byte_order_marks(encoding: str) -> None:
    data = "Ada B-P\nis O".encode(encoding)
    if encoding == "utf-8-sig":
        assert decode_lines(data, "a") == ["Ada B-P", "is O"]
        return
    with pytest.raises(AnnotationError, match=f"byte order mark of {encoding}, expected utf-8; .*encoding: {encoding}"):
        decode_lines(data, "a")
    assert decode_lines(data, "a", encoding) == ["Ada B-P", "is O"]


@pytest.mark.parametrize(
    ("module", "kind"), [("gzip", "gzip"), ("bz2", "bzip2"), ("lzma", "xz")], ids=["gzip", "bzip2", "xz"]
)
def test_compressed_files_are_refused_by_name(module: str, kind: str) -> None:
    data = importlib.import_module(module).compress(b"Ada\tB-P\n")
    with pytest.raises(
        AnnotationError, match=f"a:1: the file is compressed .{kind}.; expected annotated text; unpack it"
    ):
        parse_corpus(data, "a", ReadingSettings())


def test_a_carriage_return_here_and_there_is_text() -> None:
    assert parse_corpus(b"Ada\tB-P\na\rb\tO\n", "a", ReadingSettings()).texts[0].text == "Ada a\rb"


def test_objects_on_several_lines_are_refused_where_the_format_is_given() -> None:
    with pytest.raises(AnnotationError, match="a:1: the JSON object stands on 3 lines"):
        parse_corpus(b'{\n"text": "a", "entities": []\n}', "a", ReadingSettings(format="json_lines"))


def test_tokens_that_end_like_tags_are_tokens() -> None:
    assert parse_corpus(b"and/O\tO\nx/B-P\tB-P", "a", ReadingSettings()).texts[0].text == "and/O x/B-P"


def test_binary_is_refused() -> None:
    with pytest.raises(AnnotationError, match="a:2: the line contains a NUL character"):
        decode_lines(b"a\nb\0c", "a")


@given(st.lists(st.text(st.characters(exclude_characters="\n\r\0\ufeff", exclude_categories=["Cs"])), min_size=1))
def test_only_line_feeds_end_lines(lines: list[str]) -> None:
    assert decode_lines("\n".join(lines).encode(), "a") == lines
    assert decode_lines("\r\n".join(lines).encode(), "a") == lines


def assert_texts_or_error(data: bytes) -> None:
    """Any other exception than AnnotationError fails the test."""
    message = ""
    try:
        texts = parse_corpus(data, "a", ReadingSettings()).texts
    except AnnotationError as error:
        message = str(error)
    assert message.startswith("a:") or texts


@given(st.binary(max_size=200))
def test_any_bytes_give_texts_or_an_annotation_error(data: bytes) -> None:
    assert_texts_or_error(data)


@given(st.text(st.sampled_from('{}[]":,\\ \t\n#OBI-PERtextlabel01北'), max_size=80))
def test_any_text_gives_texts_or_an_annotation_error(text: str) -> None:
    assert_texts_or_error(text.encode())


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_an_unreadable_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x" if kind == "missing" else tmp_path
    with pytest.raises(AnnotationError, match=f"{path}: the file cannot be read: "):
        read_annotated_text(str(path))


def test_read_annotated_text(tmp_path: Path) -> None:
    path = tmp_path / "一 [a]*.jsonl"
    path.write_text('{"text": "北京", "entities": [{"start": 0, "end": 2, "type": "LOC"}]}\n', encoding="utf-8")
    (text,) = read_annotated_text(str(path))
    assert (text.text, text.source) == ("北京", f"{path}:1")
