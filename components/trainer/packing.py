"""Rows packed one after another without padding, and the groups of similar rows that attention pads.

Axes: N packed tokens, B rows, G groups, b rows of a group, s longest row of a group, P padded places of all groups,
n heads of attention of d values each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

GROUP_COUNT = 4


class RowGroup(NamedTuple):
    """Rows of similar length, padded to the longest of them.

    Args:
        row_count: int32 [], number b of rows; an empty group has 0.
        length: int32 [], length s of its longest row.
        attended: bool [b, s], True for the tokens that the row's queries attend to; False in padding.
    """

    row_count: tf.Tensor
    length: tf.Tensor
    attended: tf.Tensor


class RowPlan(NamedTuple):
    """Where every packed token stands in the padded groups, head by head, and back.

    Query, key and value of the heads of the packed tokens are N x 3 x n slices of d values, one after another; the
    padded ones are, group after group, those of [3, b, n, s]. The contexts are N x n packed and [b, n, s] padded ones.

    Args:
        position_ids: int32 [N], place of each token in its row, from 0.
        groups: the groups.
        split_index: int32 [3 P n], the packed slice of every padded one; an arbitrary one in padding.
        split_inverse: int32 [N 3 n], the padded slice of every packed one.
        merge_index: int32 [N n], the padded context of every packed one.
        merge_inverse: int32 [P n], the packed context of every padded one; an arbitrary one in padding.
        real: bool [P n], True where `merge_inverse` is of a token.
    """

    position_ids: tf.Tensor
    groups: tuple[RowGroup, ...]
    split_index: tf.Tensor
    split_inverse: tf.Tensor
    merge_index: tf.Tensor
    merge_inverse: tf.Tensor
    real: tf.Tensor


def plan_rows(
    row_lengths: tf.Tensor,
    attended_lengths: tf.Tensor | None = None,
    *,
    num_heads: int,
    group_count: int = GROUP_COUNT,
) -> RowPlan:
    """Splits rows into groups of similar length, such that the padded places of all groups are fewest.

    Args:
        row_lengths: int32 [B], lengths of the rows; B may be 0, and so may a length.
        attended_lengths: int32 [B], how many tokens of each row, from its start, are attended to; None for all. The
            rest are computed and attend like the others: so a padded model is reproduced in its padding, too.
        num_heads: the number n of heads of attention.
        group_count: the most groups to make; fewer distinct lengths leave groups empty.
    """
    # Integer bookkeeping on a few thousand numbers: an accelerator would spend the time on launches and on sending the
    # shapes back to the host.
    with tf.device("/CPU:0"):
        row_lengths = tf.cast(row_lengths, tf.int32)
        row_starts = tf.cumsum(row_lengths, exclusive=True)
        position_ids = tf.ragged.range(row_lengths).values
        order = tf.argsort(row_lengths, direction="DESCENDING", stable=True)
        sorted_lengths = tf.gather(row_lengths, order)
        sorted_starts = tf.gather(row_starts, order)
        sorted_attended = sorted_lengths if attended_lengths is None else tf.gather(attended_lengths, order)
        cuts = group_cuts(sorted_lengths, group_count)
        heads = tf.range(num_heads)
        parts = tf.range(3)

        groups, reals, split_indices, merge_inverses, bases = [], [], [], [], []
        padded_places = tf.constant(0)
        for first, last in zip(tf.unstack(cuts[:-1]), tf.unstack(cuts[1:]), strict=True):
            lengths = sorted_lengths[first:last]
            row_count = last - first
            length = tf.reduce_sum(lengths[:1])
            places = tf.range(length)
            real = places < lengths[:, tf.newaxis]
            token = tf.where(real, sorted_starts[first:last, tf.newaxis] + places, 0)[:, tf.newaxis, :]
            groups.append(RowGroup(row_count, length, places < sorted_attended[first:last, tf.newaxis]))
            split_index = (token * 3 + parts[:, tf.newaxis, tf.newaxis, tf.newaxis]) * num_heads
            split_indices.append(tf.reshape(split_index + heads[:, tf.newaxis], [-1]))
            merge_inverses.append(tf.reshape(token * num_heads + heads[:, tf.newaxis], [-1]))
            reals.append(tf.reshape(tf.repeat(real, num_heads, axis=0), [-1]))
            row_base = tf.range(row_count) * num_heads * length
            bases.append(
                tf.stack(
                    [
                        3 * num_heads * padded_places + row_base,
                        tf.repeat(row_count * num_heads * length, row_count),
                        num_heads * padded_places + row_base,
                        tf.repeat(length, row_count),
                    ],
                    axis=1,
                )
            )
            padded_places += row_count * length

        # Of each row: its first place in the padded parts, the step from one part to the next, its first place in the
        # padded contexts, and the step from one head to the next.
        by_row = tf.gather(tf.concat(bases, axis=0), tf.argsort(order))
        split_base, part_step, merge_base, head_step = tf.unstack(tf.repeat(by_row, row_lengths, axis=0), axis=1)
        head_places = head_step[:, tf.newaxis] * heads + position_ids[:, tf.newaxis]
        part_places = split_base[:, tf.newaxis] + part_step[:, tf.newaxis] * parts
        return RowPlan(
            position_ids=position_ids,
            groups=tuple(groups),
            split_index=tf.concat(split_indices, axis=0),
            split_inverse=tf.reshape(part_places[:, :, tf.newaxis] + head_places[:, tf.newaxis, :], [-1]),
            merge_index=tf.reshape(merge_base[:, tf.newaxis] + head_places, [-1]),
            merge_inverse=tf.concat(merge_inverses, axis=0),
            real=tf.concat(reals, axis=0),
        )


def group_cuts(sorted_lengths: tf.Tensor, group_count: int) -> tf.Tensor:
    """Returns where to cut rows sorted by length such that padding each part to its longest row costs fewest places.

    Exact, by dynamic programming over the distinct lengths U (at most the longest row a model takes): O(G U^2).

    Args:
        sorted_lengths: int32 [B], descending.
        group_count: number G of parts.

    Returns:
        int32 [G + 1]: part g holds the rows `cuts[g]:cuts[g + 1]`; the first is 0, the last B; parts may be empty.
    """
    lengths, _, counts = tf.unique_with_counts(sorted_lengths)
    # ends[u] rows are at least as long as lengths[u - 1]: the places between distinct lengths, with both borders.
    ends = tf.concat([[0], tf.cumsum(counts)], axis=0)
    distinct = tf.size(lengths)
    # cost[i, j]: places of one group that holds the distinct lengths i..j-1, padded to lengths[i].
    longest = tf.cast(tf.concat([lengths, [0]], axis=0), tf.float32)
    rows = tf.cast(ends[tf.newaxis, :] - ends[:, tf.newaxis], tf.float32)
    cost = tf.where(rows >= 0.0, rows * longest[:, tf.newaxis], float("inf"))
    # best[i]: fewest places for the lengths from i on with the groups counted so far; none of them: only i = U.
    best = cost[:, distinct]
    choices = []
    for _ in range(group_count - 1):
        total = cost + best[tf.newaxis, :]
        choices.append(tf.argmin(total, axis=1, output_type=tf.int32))
        best = tf.reduce_min(total, axis=1)
    cut = tf.constant(0)
    cuts = [cut]
    for choice in reversed(choices):
        cut = choice[cut]
        cuts.append(cut)
    cuts.append(distinct)
    return tf.gather(ends, tf.stack(cuts))


def split_heads(query_key_value: tf.Tensor, plan: RowPlan, head_size: int) -> list[tf.Tensor]:
    """Lays packed projections out in the padded places of their groups; padding holds arbitrary values.

    One gather of the slices of the heads does what a gather of tokens and a transpose would do with twice the memory
    traffic. The gradient of padding is taken to be zero, which holds where padding is masked or dropped: the gradient
    is then a gather too, and not the slow and unordered scatter that a gather's gradient would be.

    Args:
        query_key_value: [N, 3 n d], query, key and value side by side.
        plan: of these rows.
        head_size: the size d of a head.

    Returns:
        Of each group query, key and value, [3, b, n, s, d].
    """

    @tf.custom_gradient
    def split(slices: tf.Tensor) -> tuple[tf.Tensor, object]:
        return tf.gather(slices, plan.split_index), lambda gradient: tf.gather(gradient, plan.split_inverse)

    num_heads = query_key_value.shape[-1] // (3 * head_size)
    shapes = [[3, group.row_count, num_heads, group.length, head_size] for group in plan.groups]
    slices = split(tf.reshape(query_key_value, [-1, head_size]))
    parts = tf.split(slices, [3 * num_heads * rows * length for _, rows, _, length, _ in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def merge_heads(contexts: Sequence[tf.Tensor], plan: RowPlan) -> tf.Tensor:
    """Takes the real tokens out of the padded places, the way back from `split_heads`.

    Args:
        contexts: of each group, [b, n, s, d].
        plan: of these rows.

    Returns:
        [N, n d].
    """

    @tf.custom_gradient
    def merge(slices: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            spread = tf.gather(upstream, plan.merge_inverse)
            return tf.where(plan.real[:, tf.newaxis], spread, tf.zeros([], spread.dtype))

        return tf.gather(slices, plan.merge_index), gradient

    num_heads, head_size = contexts[0].shape[1], contexts[0].shape[3]
    slices = merge(tf.concat([tf.reshape(context, [-1, head_size]) for context in contexts], axis=0))
    return tf.reshape(slices, [-1, num_heads * head_size])
