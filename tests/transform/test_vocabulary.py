from __future__ import annotations

from pathlib import Path

import pytest

from components.transform.vocabulary import Vocabulary, VocabularyError

REQUIRED = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n"


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        pytest.param(b"a\n", ("a",), id="plain"),
        pytest.param(b"a", ("a",), id="no line feed at the end"),
        pytest.param(b"a\r\nb\r\n", ("a", "b"), id="CRLF"),
        pytest.param(b" a \t\n", ("a",), id="surrounding whitespace"),
        pytest.param("\u3000\nb\n".encode(), ("", "b"), id="a piece of whitespace is an empty one"),
        pytest.param("a\u2028b\nc\n".encode(), ("a\u2028b", "c"), id="only the line feed ends a line"),
        pytest.param(b"a\n\n\n", ("a",), id="blank lines at the end"),
        pytest.param(b"a\n\nb\n", ("a", "", "b"), id="a blank line within keeps its id"),
    ],
)
def test_from_file(tmp_path: Path, content: bytes, tokens: tuple[str, ...]) -> None:
    (tmp_path / "vocab.txt").write_bytes(REQUIRED + content)
    vocabulary = Vocabulary.from_file(tmp_path / "vocab.txt")
    assert vocabulary.tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *tokens)
    assert (vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id, vocabulary.sep_id) == (0, 1, 2, 3)
    assert Vocabulary.from_bytes(vocabulary.to_bytes(), source="copy") == vocabulary


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + REQUIRED)
    assert Vocabulary.from_file(tmp_path / "vocab.txt").pad_id == 0


def test_the_last_line_of_a_repeated_token_is_its_id() -> None:
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "[PAD]", "a"))
    assert (vocabulary.pad_id, vocabulary.id_of("a"), vocabulary.id_of("b")) == (5, 6, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", r"vocab\.txt: the vocabulary is empty", id="empty"),
        pytest.param(b"\n \n", r"vocab\.txt: the vocabulary is empty", id="blank"),
        pytest.param(
            b"[PAD]\n[CLS]\na\n", r"vocab\.txt: the vocabulary of 3 tokens lacks \[UNK\], \[SEP\]", id="special"
        ),
        pytest.param(REQUIRED + "北".encode("gbk"), r"vocab\.txt:5: not UTF-8 \(byte 0xb1\)", id="encoding"),
        pytest.param(None, r"vocab\.txt: cannot read the vocabulary", id="missing"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.from_file(tmp_path / "vocab.txt")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="cannot read the vocabulary"):
        Vocabulary.from_file(tmp_path)
