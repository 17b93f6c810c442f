"""The graph tokenizer against google-research/bert's FullTokenizer, and its offsets against the text."""

from __future__ import annotations

import dataclasses
import random
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.transform.tokenizer import Tokenizer
from components.transform.vocabulary import Vocabulary

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZéßıſσςΣαάΩжЯ가각ᄒ\u1161ｆか①Ⅷ0123456789"


def rich_vocabulary() -> Vocabulary:
    """Characters, pieces of several characters, and lines that only careless files have."""
    choose = random.Random(20181031).choice
    characters = [
        *LETTERS,
        *"中国北京大学，。！？（）、…“”",
        *"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
        "👍",
        *"\u302e\u302f\u1b44\U00016ff0",
        "\uffff",
    ]
    pieces = [choose(("", "##")) + "".join(choose(LETTERS) for _ in range(2 + index % 3)) for index in range(4000)]
    oddities = ["", "a", "a", "b c", "##", "\ufffd", "a\u0301", "\x01", "北京", "[unused1]"]
    return Vocabulary((*SPECIAL_TOKENS, *oddities, *characters, *(f"##{c}" for c in characters), *pieces))


@dataclasses.dataclass(frozen=True)
class Pair:
    """The tokenizer and its reference on one vocabulary."""

    tokenizer: Tokenizer
    reference: Any


@pytest.fixture(
    scope="module",
    params=[(True, "rich"), (False, "rich"), (True, "tiny"), (False, "tiny")],
    ids=["uncased-rich", "cased-rich", "uncased-tiny", "cased-tiny"],
)
def pair(request: pytest.FixtureRequest, make_reference: Callable[..., Any]) -> Pair:
    lower_case, size = request.param
    vocabulary = rich_vocabulary() if size == "rich" else Vocabulary((*SPECIAL_TOKENS[:4], "a", "##b", "中", "，"))
    return Pair(
        Tokenizer(vocabulary, lower_case=lower_case),
        make_reference(vocabulary, lower_case=lower_case),
    )


any_character = st.characters(exclude_categories=("Cs",))
awkward_character = st.sampled_from(
    [
        *" \t\n\r\x00\x1c\x85\u00a0\u3000\u2028\u2029\u180e\u200b\u200d\u2060\ufeff\ufffd",  # whitespace and control
        *"\u0301\u0308\u0345\u05b0\u0e31\u20e3\ufe0f\u302e\u302f\u1b44\U00016ff0\U0001d165",  # combining marks
        *"ΣΣΣσς'.:·ʰªº",  # what decides between the two small sigmas
        *"İIıſßﬁÅ\u212b\u1fef\u037e\u0344\uac00\u1100\u1161\u11a8\uf900\U0002f800",  # unusual case and decomposition
        *"\uffff\ufdd0\U0001fffe\U0010ffff\ue000\u0378",  # noncharacters, private use, unassigned
        *"👍🏽👨👩🇨🇳#",
    ]
)
common_character = st.sampled_from([*LETTERS, *"中国北京大学，。！？（）、…“”", *" ,.-_@#"])
short_text = st.text(st.one_of(common_character, awkward_character, any_character), max_size=40)
# Words of about the length beyond which they are unknown.
long_word = st.builds(
    lambda part, length: (part * length)[:length],
    st.text(common_character, min_size=1, max_size=4),
    st.integers(190, 420),
)
texts = st.lists(st.one_of(short_text, long_word), max_size=30)
hypothesis_settings = settings(max_examples=60)


@hypothesis_settings
@given(texts=texts)
def test_ids_are_those_of_the_reference(pair: Pair, texts: list[str]) -> None:
    token_ids = pair.tokenizer(tf.constant(texts, tf.string)).token_ids.to_list()
    assert token_ids == [pair.reference.ids(text) for text in texts]


@hypothesis_settings
@given(texts=texts)
def test_offsets_cover_the_text_their_pieces_come_from(pair: Pair, texts: list[str]) -> None:
    tokens = pair.tokenizer(tf.constant(texts, tf.string))
    for text, *fields in zip(texts, *(field.to_list() for field in tokens), strict=True):
        ids, starts, ends = fields
        assert all(0 <= start < end <= len(text) for start, end in zip(starts, ends, strict=True))
        assert starts == sorted(starts)
        assert ends == sorted(ends)
        covered = {index for start, end in zip(starts, ends, strict=True) for index in range(start, end)}
        for index in set(range(len(text))) - covered:
            assert pair.reference.words(text[index]) == [], f"{text!r} loses {text[index]!r}"
        for position, (token_id, start, end) in enumerate(zip(ids, starts, ends, strict=True)):
            if token_id == pair.tokenizer.vocabulary.unk_id:
                continue
            piece = pair.tokenizer.vocabulary.tokens[token_id]
            # A sigma's form and the order of marks depend on what stands around the piece.
            source = sorted("".join(pair.reference.words(text[start:end])).replace("ς", "σ"))
            expected = sorted((piece.removeprefix("##") if len(piece) > 2 else piece).replace("ς", "σ"))
            # Neighbours share a code point that decomposes into several pieces, such as a Hangul syllable.
            shared = (
                start in ends[:position]
                or start < max(ends[:position], default=0)
                or end > min(starts[position + 1 :], default=len(text))
            )
            if shared:
                assert set(expected) <= set(source)
            else:
                assert source == expected


@pytest.fixture(scope="module")
def uncased_tokenizer() -> Tokenizer:
    return Tokenizer(rich_vocabulary(), lower_case=True)


@settings(max_examples=200)
@given(content=st.lists(st.binary(max_size=30), max_size=20))
def test_any_bytes_are_read_as_python_reads_them(uncased_tokenizer: Tokenizer, content: list[bytes]) -> None:
    from_bytes = uncased_tokenizer(tf.constant(content, tf.string))
    decoded = [value.decode("utf-8", "replace") for value in content]
    from_text = uncased_tokenizer(tf.constant(decoded, tf.string))
    assert [field.to_list() for field in from_bytes] == [field.to_list() for field in from_text]


@pytest.mark.parametrize("lower_case", [True, False], ids=["uncased", "cased"])
def test_every_assigned_code_point_within_a_word(lower_case: bool, make_reference: Callable[..., Any]) -> None:
    vocabulary = rich_vocabulary()
    # Of the large uniform blocks every 16th, of the rest every code point.
    uniform = ("CJK UNIFIED", "HANGUL SYLLABLE", "EGYPTIAN", "TANGUT", "CUNEIFORM", "YI SYLLABLE", "CJK COMPATIBILITY")
    codes = [
        code
        for code in range(0x110000)
        if (name := unicodedata.name(chr(code), "")) and (code % 16 == 0 or not name.startswith(uniform))
    ]
    codes += [*range(0xA0), *range(0xFDD0, 0xFDF0), 0xFFFE, 0xFFFF, 0xE000, 0x378]
    texts = [f"a{chr(code)}b" for code in codes]
    token_ids = Tokenizer(vocabulary, lower_case=lower_case)(tf.constant(texts)).token_ids.to_list()
    reference = make_reference(vocabulary, lower_case=lower_case)
    different = [
        hex(code) for code, text, ids in zip(codes, texts, token_ids, strict=True) if reference.ids(text) != ids
    ]
    assert different == []
