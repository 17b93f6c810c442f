from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.trainer.windows import cut_windows

CLS, SEP = 1, 2


def cut(rows, *, window, overlap):
    ragged = tf.ragged.constant(rows, dtype=tf.int32, ragged_rank=1)
    windows = cut_windows(ragged, cls_id=CLS, sep_id=SEP, window=window, overlap=overlap)
    splits = np.cumsum(windows.row_lengths.numpy())[:-1]
    cut_rows = np.split(windows.token_ids.numpy(), splits) if len(windows.row_lengths) else []
    return [row.tolist() for row in cut_rows], windows.token_position.numpy()


@pytest.mark.parametrize(
    ("rows", "expected", "positions"),
    [
        pytest.param([], [], [], id="no texts"),
        pytest.param([[]], [], [], id="a text without tokens has no window"),
        pytest.param([[7]], [[1, 7, 2]], [1], id="one token"),
        pytest.param([[5, 6, 7, 8]], [[1, 5, 6, 7, 8, 2]], [1, 2, 3, 4], id="just fits"),
        pytest.param(
            [[5, 6, 7, 8, 9]],
            [[1, 5, 6, 7, 8, 2], [1, 6, 7, 8, 9, 2]],
            [1, 2, 8, 9, 10],
            id="one too many: the last window is full, the middle token moves to it",
        ),
        pytest.param(
            [[3], [], [5, 6, 7, 8, 9], [4]],
            [[1, 3, 2], [1, 5, 6, 7, 8, 2], [1, 6, 7, 8, 9, 2], [1, 4, 2]],
            [1, 4, 5, 11, 12, 13, 16],
            id="several texts",
        ),
    ],
)
def test_windows(rows, expected, positions):
    cut_rows, token_position = cut(rows, window=6, overlap=2)
    assert cut_rows == expected
    assert token_position.tolist() == positions


@st.composite
def texts_and_windows(draw):
    window = draw(st.integers(4, 20))
    overlap = draw(st.integers(0, window - 3))
    lengths = draw(st.lists(st.one_of(st.integers(0, 25), st.integers(0, 150)), max_size=5))
    return lengths, window, overlap


@given(texts_and_windows())
@settings(max_examples=60)
def test_every_token_counts_once_with_its_context(case):
    lengths, window, overlap = case
    # Ids tell text and place, so that a misplaced token shows.
    rows = [[1000 * (text + 1) + place for place in range(length)] for text, length in enumerate(lengths)]
    cut_rows, token_position = cut(rows, window=window, overlap=overlap)

    packed = [token for row in cut_rows for token in row]
    assert [packed[position] for position in token_position] == [token for row in rows for token in row]
    assert all(row[0] == CLS and row[-1] == SEP and len(row) <= window for row in cut_rows)
    assert len(cut_rows) >= sum(length > 0 for length in lengths)

    row_ends = np.cumsum([len(row) for row in cut_rows])
    position_of = iter(token_position)
    windows_of_text = [set() for _ in lengths]
    for text, length in enumerate(lengths):
        for place in range(length):
            position = next(position_of)
            row = int(np.searchsorted(row_ends, position, side="right"))
            windows_of_text[text].add(row)
            right = row_ends[row] - 1 - position - 1  # tokens after it, without [SEP]
            left = len(cut_rows[row]) - 3 - right
            assert left >= min(place, overlap // 2)
            assert right >= min(length - 1 - place, overlap // 2)
    for length, owners in zip(lengths, windows_of_text, strict=True):
        if length <= window - 2:
            assert len(owners) == min(length, 1)
    assert len(cut_rows) == len(set().union(*windows_of_text)), "a window that owns no token is wasted"


def test_an_overlap_that_leaves_no_room_is_refused():
    with pytest.raises(ValueError, match="the overlap must be 0 to 3 for windows of 6 tokens; received 4"):
        cut([[5]], window=6, overlap=4)
