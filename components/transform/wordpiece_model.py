"""The vocabulary compiled for `FastWordpieceTokenizer`, so that its answers are those of google-research/bert."""

from __future__ import annotations

import numpy as np
from tensorflow_text.core.pybinds import pywrap_fast_wordpiece_tokenizer_model_builder as model_builder

from components.transform.code_points import DROPPED, NONCHARACTER_STAND_INS, WHITESPACE, code_point_tables
from components.transform.vocabulary import UNK, Vocabulary, VocabularyError

SUFFIX_INDICATOR = "##"

# Stands for a word that must become [UNK]; a control character never reaches a word, so no piece matches it.
UNKNOWN_WORD = "\x01"

# FastWordpieceTokenizer keeps the length of a piece in eight bits.
MAX_PIECE_BYTES = 255
_UNLIMITED_BYTES = 2**31 - 1


def build_wordpiece_model(vocabulary: Vocabulary) -> np.ndarray:
    """Returns the model of `FastWordpieceTokenizer` as uint8 [bytes]; the input must be words already.

    Raises:
        VocabularyError: a piece is longer than the tokenizer supports.
    """
    for index, token in enumerate(vocabulary.tokens):
        if len(token.encode()) > MAX_PIECE_BYTES:
            raise VocabularyError(
                f"the word piece {index} ({token[:20]!r}...) has {len(token.encode())} bytes; "
                f"at most {MAX_PIECE_BYTES} are supported"
            )
    model = model_builder.build_fast_wordpiece_model(
        _model_tokens(vocabulary), _UNLIMITED_BYTES, SUFFIX_INDICATOR, UNK, True, False
    )
    return np.frombuffer(bytes(model), np.uint8)


def _model_tokens(vocabulary: Vocabulary) -> list[str]:
    # The builder refuses empty and repeated tokens. Those, and all that no word can contain, keep their ids as
    # placeholders that no word can contain either.
    last_index = {token: index for index, token in enumerate(vocabulary.tokens)}
    return [
        token.translate(NONCHARACTER_STAND_INS)
        if last_index[token] == index and _is_reachable(token)
        else f"{UNKNOWN_WORD}{index}"
        for index, token in enumerate(vocabulary.tokens)
    ]


def _is_reachable(token: str) -> bool:
    table = code_point_tables(lower_case=False).original
    return token not in ("", SUFFIX_INDICATOR) and not any(
        table.value(ord(character)) & (DROPPED | WHITESPACE) for character in token
    )
