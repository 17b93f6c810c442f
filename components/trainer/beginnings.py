"""Where entities may begin in a model whose annotators marked what whitespace separates, in the graph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from components.trainer.pieces import continuation_tokens
from components.transform import code_points
from components.transform.vocabulary import Vocabulary


class PieceKinds(NamedTuple):
    """What a token of the vocabulary is: bool [vocabulary] each.

    Attributes:
        continues: it continues a word.
        lettered: it has a letter or a digit; [UNK] may have none.
        alone: it is an ideograph, which is a word of its own in texts without whitespace.
    """

    continues: np.ndarray
    lettered: np.ndarray
    alone: np.ndarray


def piece_kinds(vocabulary: Vocabulary) -> PieceKinds:
    """Returns the kinds of the tokens of a vocabulary."""
    properties = code_points.code_point_tables(lower_case=False).original
    special = {vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id, vocabulary.sep_id}
    return PieceKinds(
        continues=np.array(continuation_tokens(vocabulary)),
        lettered=np.array(
            [index not in special and any(map(str.isalnum, token)) for index, token in enumerate(vocabulary.tokens)]
        ),
        alone=np.array(
            [len(token) == 1 and bool(properties.value(ord(token)) & code_points.CJK) for token in vocabulary.tokens]
        ),
    )


def may_begin(token_ids: tf.RaggedTensor, start: tf.RaggedTensor, end: tf.RaggedTensor, kinds: PieceKinds) -> tf.Tensor:
    """Tells where entities may begin: bool [N], tokens of all texts.

    Not behind a letter or digit, unless whitespace or an ideograph stands between them, or the token is one. So an
    entity may begin at `Rome` in `(Rome)` and `@Rome`, and at no token of `well-known` and `www.rome.it` but the first.

    Args:
        token_ids: int32 [B, (tokens)], which sum to N.
        start: int32 [B, (tokens)], code points.
        end: int32 [B, (tokens)], exclusive.
        kinds: of the vocabulary's tokens.
    """
    ids = token_ids.flat_values
    texts = token_ids.value_rowids()
    alone = tf.gather(tf.constant(kinds.alone), ids)
    lettered = tf.cast(tf.gather(tf.constant(kinds.lettered), ids), tf.int32)
    touches = (start.flat_values[1:] == end.flat_values[:-1]) & ~alone[1:] & ~alone[:-1]
    # A character that the tokenizer drops may stand within a word.
    joined = (touches | tf.gather(tf.constant(kinds.continues), ids[1:])) & (texts[1:] == texts[:-1])
    begins_run = tf.concat([[True], ~joined], axis=0)[: tf.size(ids)]
    before = tf.cumsum(lettered, exclusive=True)
    run = tf.cumsum(tf.cast(begins_run, tf.int32)) - 1
    return before == tf.gather(tf.boolean_mask(before, begins_run), run)
