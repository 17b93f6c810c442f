"""Where entities may begin in a model whose annotators marked what whitespace separates, in the graph."""

from __future__ import annotations

import tensorflow as tf

from components.segments import segment_ids
from components.trainer.pieces import PieceKinds


def may_begin(token_ids: tf.RaggedTensor, start: tf.RaggedTensor, end: tf.RaggedTensor, kinds: PieceKinds) -> tf.Tensor:
    """Tells where entities may begin: bool [N], tokens of all texts; the first of each text is among them.

    Not behind a letter or digit, unless whitespace or an ideograph stands between them, or the token is one. So an
    entity may begin at `Rome` in `(Rome)` and `@Rome`, and at no token of `well-known` and `www.rome.it` but the first.

    Args:
        token_ids: int32 [B, (tokens)], which sum to N.
        start: int32 [B, (tokens)], code points.
        end: int32 [B, (tokens)], exclusive.
        kinds: of the vocabulary's tokens.
    """
    ids = token_ids.flat_values
    texts = segment_ids(token_ids.row_splits)
    ideograph = tf.gather(tf.constant(kinds.ideograph), ids)
    lettered = tf.cast(tf.gather(tf.constant(kinds.lettered), ids), tf.int32)
    touches = (start.flat_values[1:] == end.flat_values[:-1]) & ~ideograph[1:] & ~ideograph[:-1]
    # A character that the tokenizer drops may stand within a word.
    joined = (touches | tf.gather(tf.constant(kinds.continues), ids[1:])) & (texts[1:] == texts[:-1])
    begins_run = tf.concat([[True], ~joined], axis=0)[: tf.size(ids)]
    lettered_before = tf.cumsum(lettered, exclusive=True)
    run = tf.cumsum(tf.cast(begins_run, tf.int32)) - 1
    return lettered_before == tf.gather(tf.boolean_mask(lettered_before, begins_run), run)
