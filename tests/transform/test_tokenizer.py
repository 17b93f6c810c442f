from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf

from components.transform.tokenizer import Tokenizer
from components.transform.vocabulary import Vocabulary, VocabularyError

PIECES = """
[PAD] [UNK] [CLS] [SEP] 北 京 ， ！ 。 , ! ( … Ⅷ ❤ cafe ca ##fe elan É ##lan e ##x x αςα ας ασα b İ i a ##a
"""
VOCABULARY = Vocabulary(tuple(PIECES.split()))

Pieces = list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def tokenizers() -> dict[bool, Tokenizer]:
    return {lower_case: Tokenizer(VOCABULARY, lower_case=lower_case) for lower_case in (True, False)}


def pieces_of(tokenizer: Tokenizer, text: str | bytes) -> Pieces:
    ids, starts, ends = (field.to_list()[0] for field in tokenizer(tf.constant([text])))
    return list(zip([VOCABULARY.tokens[index] for index in ids], starts, ends, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("北京", [("北", 0, 1), ("京", 1, 2)], id="each CJK character is a word"),
        pytest.param(
            "北京，b！", [("北", 0, 1), ("京", 1, 2), ("，", 2, 3), ("b", 3, 4), ("！", 4, 5)], id="full-width"
        ),
        pytest.param("…Ⅷ", [("…", 0, 1), ("[UNK]", 1, 2)], id="compatibility forms stay; Ⅷ lower-cases to ⅷ"),
        pytest.param("Café", [("cafe", 0, 4)], id="accent, composed"),
        pytest.param("Cafe\u0301 b", [("cafe", 0, 5), ("b", 6, 7)], id="accent, decomposed, belongs to its piece"),
        pytest.param("Élan", [("elan", 0, 4)], id="accent at the start"),
        pytest.param("ex", [("e", 0, 1), ("##x", 1, 2)], id="two pieces"),
        pytest.param("e\u0301x", [("e", 0, 2), ("##x", 2, 3)], id="a mark within a word belongs to the piece before"),
        pytest.param("\u0301ex", [("e", 1, 2), ("##x", 2, 3)], id="a mark at the start belongs to no piece"),
        pytest.param("❤\ufe0f b", [("❤", 0, 2), ("b", 3, 4)], id="variation selector"),
        pytest.param("e\u200dx", [("e", 0, 1), ("##x", 2, 3)], id="a dropped character within a word"),
        pytest.param("\u200b\x00\ufffd\x85", [], id="only dropped characters"),
        pytest.param(" \t\u3000\u2028", [], id="only whitespace"),
        pytest.param("b\u2028b", [("b", 0, 1), ("b", 2, 3)], id="line separator"),
        pytest.param("ΑΣ", [("ας", 0, 2)], id="final sigma"),
        pytest.param("ΑΣΑ", [("ασα", 0, 3)], id="sigma within a word"),
        pytest.param("ΑΣ北", [("ας", 0, 2), ("北", 2, 3)], id="sigma before a CJK character is final"),
        pytest.param("İ", [("i", 0, 1)], id="one code point becomes two"),
        pytest.param("😀 b", [("[UNK]", 0, 1), ("b", 2, 3)], id="an astral code point counts once"),
        pytest.param("ax" * 101, [("[UNK]", 0, 202)], id="a long word is unknown as a whole"),
        pytest.param(
            "a" * 200, [("a", 0, 1), *(("##a", i, i + 1) for i in range(1, 200))], id="200 characters are not"
        ),
        pytest.param("a" * 201, [("[UNK]", 0, 201)], id="201 characters are too many"),
        pytest.param("x" + "e\u0301" * 210 + " b", [("[UNK]", 0, 421), ("b", 422, 423)], id="a long word with marks"),
        pytest.param("[CLS]", [("[UNK]", 0, 1), ("[UNK]", 1, 4), ("[UNK]", 4, 5)], id="special tokens in the text"),
        pytest.param(b"b\xff\xe5\x8c b", [("b", 0, 1), ("b", 4, 5)], id="invalid UTF-8 counts as U+FFFD"),
    ],
)
def test_uncased(tokenizers: dict[bool, Tokenizer], text: str | bytes, expected: Pieces) -> None:
    assert pieces_of(tokenizers[True], text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Élan", [("É", 0, 1), ("##lan", 1, 4)], id="case and accent stay"),
        pytest.param("E\u0301lan", [("[UNK]", 0, 5)], id="nothing is composed"),
        pytest.param("İ", [("İ", 0, 1)], id="no lower-casing"),
        pytest.param("Ⅷ，", [("Ⅷ", 0, 1), ("，", 1, 2)], id="compatibility forms"),
    ],
)
def test_cased(tokenizers: dict[bool, Tokenizer], text: str, expected: Pieces) -> None:
    assert pieces_of(tokenizers[False], text) == expected


@pytest.mark.parametrize(
    "texts", [[], [""], ["", ""], ["", "b", "", "\u0301"]], ids=["no text", "empty", "two", "mixed"]
)
@pytest.mark.parametrize("lower_case", [True, False], ids=["uncased", "cased"])
def test_empty_texts(tokenizers: dict[bool, Tokenizer], texts: list[str], lower_case: bool) -> None:
    tokens = tokenizers[lower_case](tf.constant(texts, tf.string))
    in_graph = tf.function(tokenizers[lower_case].__call__)(tf.constant(texts, tf.string))
    lengths = [1 if text == "b" else 0 for text in texts]
    if not lower_case and texts[-1:] == ["\u0301"]:
        lengths[-1] = 1
    for field, same in zip(tokens, in_graph, strict=True):
        assert field.dtype == tf.int32
        assert field.row_lengths().numpy().tolist() == lengths
        assert field.to_list() == same.to_list()


def test_a_long_text_takes_well_under_a_second(tokenizers: dict[bool, Tokenizer]) -> None:
    graph = tf.function(tokenizers[True].__call__, input_signature=[tf.TensorSpec([None], tf.string)])
    texts = tf.constant(["北京，Cafe\u0301 exx ΑΣ！" * 6250, ""])  # 100,000 code points
    graph(texts)
    begin = time.perf_counter()
    tokens = graph(texts)
    seconds = time.perf_counter() - begin
    assert tokens.end.to_list()[0][-1] == 100_000
    assert seconds < 1.0


def test_a_skewed_batch_needs_no_memory_for_padding(tokenizers: dict[bool, Tokenizer]) -> None:
    # Padded to the longest row, this batch would take 20 GB.
    tokens = tokenizers[True](tf.constant(["北京" * 50_000, *["b"] * 50_000]))
    assert tokens.token_ids.row_lengths().numpy().tolist() == [100_000, *[1] * 50_000]


def test_the_last_of_repeated_pieces_counts() -> None:
    vocabulary = Vocabulary(("[PAD]", "b", "[UNK]", "[CLS]", "[SEP]", "b", "[UNK]", ""))
    assert Tokenizer(vocabulary, lower_case=True)(tf.constant(["b z"])).token_ids.to_list() == [[5, 6]]


def test_a_piece_too_long_for_the_model_is_named() -> None:
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "x" * 256))
    with pytest.raises(VocabularyError, match=r"piece 4 .*256 bytes; at most 255"):
        Tokenizer(vocabulary, lower_case=True)


def test_the_longest_piece_works() -> None:
    longest = "か" * 84 + "bcd"  # 255 bytes
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", longest, f"##{longest[1:]}", "か"))
    tokenizer = Tokenizer(vocabulary, lower_case=False)
    assert tokenizer(tf.constant([longest])).token_ids.to_list() == [[4]]


def test_the_graph_holds_one_op_beyond_core_tensorflow(tokenizers: dict[bool, Tokenizer], tmp_path: Path) -> None:
    # TensorFlow Serving has only some ops of TF Text; see docs/tokenization.md.
    function = tf.function(tokenizers[True].__call__).get_concrete_function(tf.TensorSpec([None], tf.string))
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(node for body in definition.library.function for node in body.node_def)]
    (tmp_path / "ops").write_text("\n".join({node.op for node in nodes}))
    script = (
        "import sys; from tensorflow.python.framework import op_def_registry as r; import tensorflow as tf\n"
        "print(*sorted(op for op in open(sys.argv[1]).read().split() if r.get(op) is None))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "ops")], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["FastWordpieceTokenizeWithOffsets"]
    assert definition.ByteSize() < 1_000_000


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        pytest.param("a\u302e\u1b44", "a ##\u1b44 ##\u302e", id="by class, 224 and 9"),
        pytest.param("a\u302e\u0301\u1b44", "a ##\u1b44 ##\u302e", id="past a stripped mark"),
        pytest.param("a\u302e\u20e3\u1b44", "a ##\u302e ##\u20e3 ##\u1b44", id="not past a mark of class 0"),
        pytest.param("a\u302ea\u1b44", "a ##\u302e ##a ##\u1b44", id="not past a letter"),
        pytest.param("a\u302e 中\u1b44", "a ##\u302e 中 \u1b44", id="not past the end of a word"),
    ],
)
def test_marks_that_are_not_stripped_are_ordered_as_in_nfd(text: str, pieces: str) -> None:
    marks = [prefix + mark for prefix in ("", "##") for mark in "\u302e\u1b44\u20e3"]
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##a", "中", *marks))
    tokens = Tokenizer(vocabulary, lower_case=True)(tf.constant([text]))
    assert [vocabulary.tokens[index] for index in tokens.token_ids.to_list()[0]] == pieces.split(" ")
    assert tokens.start.to_list()[0] == sorted(tokens.start.to_list()[0])
