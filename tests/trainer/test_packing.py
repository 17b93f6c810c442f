from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.trainer.packing import GROUP_COUNT, group_cuts, pack_rows, pad_rows, plan_rows

ROW_LENGTHS = st.lists(st.integers(0, 40), max_size=12)


def padded_area(lengths: list[int], cuts: tuple[int, ...]) -> int:
    return sum((last - first) * lengths[first] for first, last in itertools.pairwise(cuts) if last > first)


def fewest_places(lengths: list[int], group_count: int) -> int:
    """Returns the padded area of the best cuts, by trying all of them."""
    inner = itertools.combinations_with_replacement(range(len(lengths) + 1), group_count - 1)
    return min(padded_area(lengths, (0, *cuts, len(lengths))) for cuts in inner)


@given(ROW_LENGTHS, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_cuts_pad_as_little_as_possible(row_lengths: list[int], group_count: int) -> None:
    lengths = sorted(row_lengths, reverse=True)
    cuts = tuple(group_cuts(tf.constant(lengths, tf.int32), group_count).numpy().tolist())
    assert len(cuts) == group_count + 1
    assert (cuts[0], cuts[-1]) == (0, len(lengths))
    assert list(cuts) == sorted(cuts)
    assert padded_area(lengths, cuts) == fewest_places(lengths, group_count)


@given(ROW_LENGTHS)
@settings(max_examples=60, deadline=None)
def test_packing_undoes_padding(row_lengths: list[int]) -> None:
    plan = plan_rows(tf.constant(row_lengths, tf.int32))
    packed = tf.random.normal([sum(row_lengths), 3])
    np.testing.assert_array_equal(pack_rows(pad_rows(packed, plan), plan), packed)
    assert plan.position_ids.numpy().tolist() == [position for length in row_lengths for position in range(length)]


@given(ROW_LENGTHS)
@settings(max_examples=60, deadline=None)
def test_groups_hold_each_row_once_and_whole(row_lengths: list[int]) -> None:
    row_starts = np.cumsum([0, *row_lengths])
    token_row = np.repeat(np.arange(len(row_lengths)), row_lengths)
    plan = plan_rows(tf.constant(row_lengths, tf.int32))
    assert len(plan.groups) == GROUP_COUNT
    padded, offset, seen = plan.padded_index.numpy(), 0, []
    for group in plan.groups:
        rows, length = int(group.row_count), int(group.length)
        places = padded[offset : offset + rows * length].reshape(rows, length)
        offset += rows * length
        for row_places, attended in zip(places, group.attended.numpy(), strict=True):
            if attended.any():
                row = token_row[row_places[0]]
                assert row_places[attended].tolist() == list(range(row_starts[row], row_starts[row + 1]))
                seen.append(row)
    assert offset == len(padded)
    assert sorted(seen) == [row for row, length in enumerate(row_lengths) if length]


@given(ROW_LENGTHS)
@settings(max_examples=30, deadline=None)
def test_gradients_are_those_of_the_gathers(row_lengths: list[int]) -> None:
    plan = plan_rows(tf.constant(row_lengths, tf.int32))
    packed = tf.random.normal([sum(row_lengths), 2])
    upstream = tf.random.normal([sum(row_lengths), 2])
    # The square makes the gradient depend on the values; padding never reaches the result.
    with tf.GradientTape() as tape:
        tape.watch(packed)
        result = pack_rows(pad_rows(packed, plan) ** 2, plan)
    np.testing.assert_allclose(
        tape.gradient(result, packed, output_gradients=upstream), 2 * packed * upstream, rtol=1e-6
    )


def test_padding_gets_no_gradient() -> None:
    plan = plan_rows(tf.constant([3, 1], tf.int32), group_count=1)
    padded = tf.random.normal([6, 2])
    with tf.GradientTape() as tape:
        tape.watch(padded)
        result = tf.reduce_sum(pack_rows(padded, plan))
    assert tape.gradient(result, padded).numpy().tolist() == [[1, 1]] * 4 + [[0, 0]] * 2


def test_a_long_row_stands_alone() -> None:
    plan = plan_rows(tf.constant([10, 12, 500, 11, 12], tf.int32), group_count=2)
    assert [(int(group.row_count), int(group.length)) for group in plan.groups] == [(1, 500), (4, 12)]


def test_attended_lengths_mask_the_end_of_rows() -> None:
    plan = plan_rows(tf.constant([2, 3], tf.int32), tf.constant([1, 3], tf.int32), group_count=1)
    assert plan.groups[0].attended.numpy().tolist() == [[True, True, True], [True, False, False]]
    assert plan.packed_index.shape == 5


@pytest.mark.parametrize("row_lengths", [pytest.param([], id="no_rows"), pytest.param([0, 0], id="empty_rows")])
def test_nothing_to_pack(row_lengths: list[int]) -> None:
    plan = plan_rows(tf.constant(row_lengths, tf.int32))
    assert pad_rows(tf.zeros([0, 4]), plan).shape == (0, 4)
    assert pack_rows(tf.zeros([0, 4]), plan).shape == (0, 4)
