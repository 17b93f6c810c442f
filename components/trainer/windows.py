"""Windows: texts longer than the encoder's positions are cut at word pieces into overlapping windows.

The same graph serves training, evaluation and serving. Every token belongs to exactly one window, the one in which it
has most context, and only that window's output counts for it.

Axis letters: B texts, T tokens of a text, W windows, N tokens of all windows with their [CLS] and [SEP].
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

SPECIAL_TOKENS = 2  # [CLS] and [SEP] of each window


class Windows(NamedTuple):
    """Windows of a batch of texts, packed one after another without padding.

    Attributes:
        token_ids: int32 [N], each window as [CLS], its tokens, [SEP].
        row_lengths: int32 [W], tokens of each window, [CLS] and [SEP] included.
        token_position: int32 [sum of T], where in [N] the owning window holds each token, in the order of the texts.
    """

    token_ids: tf.Tensor
    row_lengths: tf.Tensor
    token_position: tf.Tensor


def cut_windows(token_ids: tf.RaggedTensor, *, cls_id: int, sep_id: int, window: int, overlap: int) -> Windows:
    """Cuts texts into windows of at most `window` tokens, neighbours sharing at least `overlap` tokens.

    A text that fits is one window; a text without tokens has none. All windows of a long text are full: the last one
    ends with the text. A token in several windows belongs to the one whose centre is nearest, which is the one with
    the most context on its poorer side: at least `overlap // 2` tokens on each side, or all there are.

    Args:
        token_ids: int32 [B, (T)], without [CLS] and [SEP].
        cls_id: id of [CLS].
        sep_id: id of [SEP].
        window: tokens a window may have, [CLS] and [SEP] included.
        overlap: tokens that neighbouring windows share, less than `window - 2`.

    Raises:
        ValueError: the overlap leaves no room to advance.

    Example:
        >>> cut_windows(tf.ragged.constant([[5, 6, 7]]), cls_id=1, sep_id=2, window=4, overlap=1)
        token_ids [1, 5, 6, 2, 1, 6, 7, 2], row_lengths [4, 4], token_position [1, 5, 6]
    """
    capacity = window - SPECIAL_TOKENS
    if not 0 <= overlap < capacity:
        raise ValueError(f"the overlap must be 0 to {capacity - 1} for windows of {window} tokens; received {overlap}")
    stride = capacity - overlap

    lengths = tf.cast(token_ids.row_lengths(), tf.int32)  # [B]
    windows_per_text = tf.where(
        lengths > capacity,
        1 + tf.math.floordiv(lengths - capacity + stride - 1, stride),
        tf.cast(lengths > 0, tf.int32),
    )
    text = tf.repeat(tf.range(tf.size(lengths)), windows_per_text)  # [W]
    number = tf.ragged.range(windows_per_text).flat_values  # [W], 0, 1, .. within each text
    text_length = tf.gather(lengths, text)
    start = tf.minimum(number * stride, tf.maximum(text_length - capacity, 0))  # [W], first token within the text
    content_length = tf.minimum(text_length, capacity)

    # All windows of a long text are equally long, so the token halfway between two centres changes the owner.
    is_last = tf.equal(number + 1, tf.gather(windows_per_text, text))
    next_start = tf.minimum((number + 1) * stride, tf.maximum(text_length - capacity, 0))
    owned_end = tf.where(is_last, text_length, tf.math.floordiv(start + next_start + capacity, 2))
    previous_owned_end = tf.concat([[0], owned_end[:-1]], axis=0)[: tf.size(owned_end)]
    owned_start = tf.where(tf.equal(number, 0), 0, previous_owned_end)

    row_lengths = content_length + SPECIAL_TOKENS
    row_start = tf.cumsum(row_lengths, exclusive=True)  # [W] in [N]
    text_start = tf.gather(tf.cumsum(lengths, exclusive=True), text)  # [W] in [sum of T]

    position = tf.ragged.range(row_lengths).flat_values  # [N], 0 is [CLS]
    window_of = tf.repeat(tf.range(tf.size(row_lengths)), row_lengths)  # [N]
    is_cls = tf.equal(position, 0)
    is_sep = tf.equal(position + 1, tf.gather(row_lengths, window_of))
    source = tf.gather(text_start + start - 1, window_of) + position
    source = tf.where(is_cls | is_sep, 0, source)
    packed = tf.gather(tf.cast(token_ids.flat_values, tf.int32), source)
    packed = tf.where(is_cls, cls_id, tf.where(is_sep, sep_id, packed))

    owned = tf.ragged.range(owned_start, owned_end)  # [W, (tokens)], positions within the text
    shift = tf.repeat(row_start + 1 - start, tf.cast(owned.row_lengths(), tf.int32))
    return Windows(packed, row_lengths, owned.flat_values + shift)
