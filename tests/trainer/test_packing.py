from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.trainer.packing import GROUP_COUNT, group_cuts, merge_heads, plan_rows, split_heads

ROW_LENGTHS = st.lists(st.integers(0, 40), max_size=12)


def padded_area(lengths: list[int], cuts: tuple[int, ...]) -> int:
    return sum((last - first) * lengths[first] for first, last in itertools.pairwise(cuts) if last > first)


def fewest_places(lengths: list[int], group_count: int) -> int:
    """Returns the padded area of the best cuts, by trying all of them."""
    inner = itertools.combinations_with_replacement(range(len(lengths) + 1), group_count - 1)
    return min(padded_area(lengths, (0, *cuts, len(lengths))) for cuts in inner)


@given(ROW_LENGTHS, st.integers(1, 4))
@settings(max_examples=60)
def test_cuts_pad_as_little_as_possible(row_lengths: list[int], group_count: int) -> None:
    lengths = sorted(row_lengths, reverse=True)
    cuts = tuple(group_cuts(tf.constant(lengths, tf.int32), group_count).numpy().tolist())
    assert len(cuts) == group_count + 1
    assert (cuts[0], cuts[-1]) == (0, len(lengths))
    assert list(cuts) == sorted(cuts)
    assert padded_area(lengths, cuts) == fewest_places(lengths, group_count)


HEADS, HEAD_SIZE = 2, 3


def random_parts(row_lengths: list[int]) -> tf.Tensor:
    return tf.random.normal([sum(row_lengths), 3 * HEADS * HEAD_SIZE])


def rows_of_part(group_parts: tf.Tensor, part: int) -> list[np.ndarray]:
    """Returns one part, [s, n d] for each row of a group."""
    rows = np.swapaxes(group_parts[part], 1, 2)
    return list(rows.reshape(*rows.shape[:2], HEADS * HEAD_SIZE))


@given(ROW_LENGTHS)
@settings(max_examples=60)
def test_groups_hold_each_row_once_and_whole(row_lengths: list[int]) -> None:
    packed = random_parts(row_lengths)
    rows = np.split(packed.numpy(), np.cumsum(row_lengths)[:-1]) if row_lengths else []
    plan = plan_rows(tf.constant(row_lengths, tf.int32), num_heads=HEADS)
    assert plan.position_ids.numpy().tolist() == [position for length in row_lengths for position in range(length)]
    assert len(plan.groups) == GROUP_COUNT
    for part in range(3):
        expected = sorted(
            row[:, part * HEADS * HEAD_SIZE : (part + 1) * HEADS * HEAD_SIZE].tolist() for row in rows if len(row)
        )
        found = [
            row[attended].tolist()
            for parts, group in zip(split_heads(packed, plan, HEAD_SIZE), plan.groups, strict=True)
            for row, attended in zip(rows_of_part(parts.numpy(), part), group.attended.numpy(), strict=True)
            if attended.any()
        ]
        assert sorted(found) == expected


@given(ROW_LENGTHS, st.integers(0, 2))
@settings(max_examples=60)
def test_merging_undoes_splitting(row_lengths: list[int], part: int) -> None:
    plan = plan_rows(tf.constant(row_lengths, tf.int32), num_heads=HEADS)
    packed = random_parts(row_lengths)
    merged = merge_heads([parts[part] for parts in split_heads(packed, plan, HEAD_SIZE)], plan)
    np.testing.assert_array_equal(merged, tf.split(packed, 3, axis=1)[part])


@given(ROW_LENGTHS)
@settings(max_examples=30)
def test_gradients_are_those_of_the_gathers(row_lengths: list[int]) -> None:
    plan = plan_rows(tf.constant(row_lengths, tf.int32), num_heads=HEADS)
    packed = random_parts(row_lengths)
    upstream = tf.random.normal([sum(row_lengths), HEADS * HEAD_SIZE])
    # The products make the gradient depend on the values; padding never reaches the result.
    with tf.GradientTape() as tape:
        tape.watch(packed)
        groups = [parts[0] * parts[1] * parts[2] for parts in split_heads(packed, plan, HEAD_SIZE)]
        result = merge_heads(groups, plan)
    with tf.GradientTape() as plain:
        plain.watch(packed)
        query, key, value = tf.split(packed, 3, axis=1)
        expected = query * key * value
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_allclose(
        tape.gradient(result, packed, output_gradients=upstream),
        plain.gradient(expected, packed, output_gradients=upstream),
        rtol=1e-5,
        atol=1e-6,
    )


def test_padding_gets_no_gradient() -> None:
    plan = plan_rows(tf.constant([3, 1], tf.int32), num_heads=1, group_count=1)
    contexts = tf.random.normal([2, 1, 3, 2])
    with tf.GradientTape() as tape:
        tape.watch(contexts)
        result = tf.reduce_sum(merge_heads([contexts], plan))
    gradient = tape.gradient(result, contexts).numpy().reshape(6, 2)
    assert gradient.tolist() == [[1, 1]] * 4 + [[0, 0]] * 2


def test_a_long_row_stands_alone() -> None:
    plan = plan_rows(tf.constant([10, 12, 500, 11, 12], tf.int32), num_heads=1, group_count=2)
    assert [(int(group.row_count), int(group.length)) for group in plan.groups] == [(1, 500), (4, 12)]


def test_attended_lengths_mask_the_end_of_rows() -> None:
    plan = plan_rows(tf.constant([2, 3], tf.int32), tf.constant([1, 3], tf.int32), num_heads=1, group_count=1)
    assert plan.groups[0].attended.numpy().tolist() == [[True, True, True], [True, False, False]]
    assert plan.merge_index.shape == 5


@pytest.mark.parametrize("row_lengths", [pytest.param([], id="no_rows"), pytest.param([0, 0], id="empty_rows")])
def test_nothing_to_pack(row_lengths: list[int]) -> None:
    plan = plan_rows(tf.constant(row_lengths, tf.int32), num_heads=HEADS)
    parts = split_heads(tf.zeros([0, 3 * HEADS * HEAD_SIZE]), plan, HEAD_SIZE)
    assert merge_heads([part[0] for part in parts], plan).shape == (0, HEADS * HEAD_SIZE)
