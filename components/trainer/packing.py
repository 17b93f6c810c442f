"""Rows packed one after another without padding, and the groups of similar rows that attention pads.

Axes: N packed tokens, B rows, G groups, b rows of a group, s longest row of a group, P padded places of all groups.
"""

from __future__ import annotations

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
    """Where every packed token stands in the padded groups, and back.

    Args:
        position_ids: int32 [N], place of each token in its row, from 0.
        padded_index: int32 [P], the packed token of every padded place; an arbitrary one in padding.
        packed_index: int32 [N], the padded place of every packed token.
        real: bool [P], True where a token stands.
        groups: the groups, in the order in which they lie in [P].
    """

    position_ids: tf.Tensor
    padded_index: tf.Tensor
    packed_index: tf.Tensor
    real: tf.Tensor
    groups: tuple[RowGroup, ...]


def plan_rows(
    row_lengths: tf.Tensor, attended_lengths: tf.Tensor | None = None, *, group_count: int = GROUP_COUNT
) -> RowPlan:
    """Splits rows into groups of similar length, such that the padded places of all groups are fewest.

    Args:
        row_lengths: int32 [B], lengths of the rows; B may be 0, and so may a length.
        attended_lengths: int32 [B], how many tokens of each row, from its start, are attended to; None for all. The
            rest are computed and attend like the others: so a padded model is reproduced in its padding, too.
        group_count: the most groups to make; fewer distinct lengths leave groups empty.
    """
    # Integer bookkeeping on a few hundred numbers: an accelerator would spend the time on launches and on sending the
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

        groups, reals, padded_indices, padded_row_starts = [], [], [], []
        padded_places = tf.constant(0)
        for first, last in zip(tf.unstack(cuts[:-1]), tf.unstack(cuts[1:]), strict=True):
            lengths = sorted_lengths[first:last]
            row_count = last - first
            length = tf.reduce_sum(lengths[:1])
            places = tf.range(length)
            real = places < lengths[:, tf.newaxis]
            index = tf.where(real, sorted_starts[first:last, tf.newaxis] + places, 0)
            groups.append(RowGroup(row_count, length, places < sorted_attended[first:last, tf.newaxis]))
            reals.append(tf.reshape(real, [-1]))
            padded_indices.append(tf.reshape(index, [-1]))
            padded_row_starts.append(padded_places + tf.range(row_count) * length)
            padded_places += row_count * length

        starts_by_row = tf.gather(tf.concat(padded_row_starts, axis=0), tf.argsort(order))
        return RowPlan(
            position_ids=position_ids,
            padded_index=tf.concat(padded_indices, axis=0),
            packed_index=tf.repeat(starts_by_row, row_lengths) + position_ids,
            real=tf.concat(reals, axis=0),
            groups=tuple(groups),
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


def pad_rows(packed: tf.Tensor, plan: RowPlan) -> tf.Tensor:
    """Lays packed tokens out in the padded places; padding holds arbitrary values.

    The gradient of padding is taken to be zero, which holds where padding is masked or dropped: the transpose of this
    function is then `pack_rows`, a gather, and not the slow and unordered scatter that a gather's gradient would be.

    Args:
        packed: [N, D].

    Returns:
        [P, D].
    """

    @tf.custom_gradient
    def pad(values: tf.Tensor) -> tuple[tf.Tensor, object]:
        return tf.gather(values, plan.padded_index), lambda gradient: tf.gather(gradient, plan.packed_index)

    return pad(packed)


def pack_rows(padded: tf.Tensor, plan: RowPlan) -> tf.Tensor:
    """Takes the real tokens out of the padded places, the inverse of `pad_rows`.

    Args:
        padded: [P, D].

    Returns:
        [N, D].
    """

    @tf.custom_gradient
    def pack(values: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            spread = tf.gather(upstream, plan.padded_index)
            return tf.where(plan.real[:, tf.newaxis], spread, tf.zeros([], spread.dtype))

        return tf.gather(values, plan.packed_index), gradient

    return pack(padded)
