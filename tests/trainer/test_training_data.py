from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.annotated_text import Entity
from components.trainer.loss import NO_TAG
from components.trainer.training_data import (
    TokenizedTexts,
    TrainingDataError,
    epoch_batches,
    read_texts,
    text_batches,
    training_windows,
)


def test_examples_are_read_back(training_arguments, annotated, tiny_vocabulary, tiny_tags):
    texts = read_texts(training_arguments.eval_files, split="dev")
    assert len(texts) == len(annotated)
    assert np.diff(texts.row_splits).tolist() == [len(text) for text, _ in annotated]
    assert texts.entities[1] == (Entity(0, 2, "PER"), Entity(5, 7, "PER"), Entity(8, 10, "LOC"))
    assert "".join(tiny_vocabulary.tokens[token] for token in texts.token_ids) == "".join(text for text, _ in annotated)
    assert [tiny_tags[tag] for tag in texts.tag_ids[:5]] == ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]
    assert texts.token_end[:3].tolist() == [1, 2, 3]
    assert (texts.entity_count, texts.unaligned) == (8, 0)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        pytest.param(["nowhere/*"], "split train: no file matches nowhere/", id="no file"),
        pytest.param([], "split train: no file matches the empty list", id="no pattern"),
    ],
)
def test_missing_files_are_named(patterns, message):
    with pytest.raises(TrainingDataError, match=message):
        read_texts(patterns, split="train")


def test_an_empty_split_is_named(training_arguments, tmp_path):
    (tmp_path / "empty.gz").write_bytes(b"")
    with pytest.raises(TrainingDataError, match="split dev: 1 files hold no example"):
        read_texts([str(tmp_path / "empty.gz")], split="dev")


def test_every_tag_counts_once(training_arguments):
    texts = read_texts(training_arguments.train_files, split="train")
    windows = training_windows(texts, cls_id=2, sep_id=3, window=7, overlap=2)
    assert windows.lengths.max() <= 7
    assert np.count_nonzero(windows.tag_ids != NO_TAG) == len(texts.tag_ids)
    counted = windows.tag_ids != NO_TAG
    # Windows lie in the order of the texts, and so do the tokens they own.
    assert windows.token_ids[counted].tolist() == texts.token_ids.tolist()
    assert windows.tag_ids[counted].tolist() == texts.tag_ids.tolist()
    assert np.all(windows.tag_ids[windows.row_splits[:-1]] == NO_TAG), "[CLS] has a tag"


def test_tags_that_do_not_count_are_left_out(training_arguments):
    texts = read_texts(training_arguments.train_files, split="train")
    counted = np.arange(len(texts.tag_ids)) % 3 == 0
    windows = training_windows(texts, cls_id=2, sep_id=3, window=7, overlap=2, counted=counted)
    assert windows.tag_ids[windows.tag_ids != NO_TAG].tolist() == texts.tag_ids[counted].tolist()


@pytest.mark.parametrize(
    ("overlap", "every_window", "tag_ids"),
    [
        pytest.param(0, False, [[1, 2, 3, NO_TAG], [NO_TAG, 4, 5, 6]], id="each where it is owned"),
        pytest.param(0, True, [[1, 2, 3, 4], [3, 4, 5, 6]], id="all in every window"),
        pytest.param(
            3,
            False,
            [[1, 2, NO_TAG, NO_TAG], [NO_TAG, 3, NO_TAG, NO_TAG], [NO_TAG, 4, 5, 6]],
            id="overlap, each where it is owned",
        ),
        pytest.param(3, True, [[1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]], id="overlap, all in every window"),
    ],
)
def test_the_tags_of_a_text_of_two_tokens_more_than_a_window_holds(overlap, every_window, tag_ids):
    tokens = np.arange(6, dtype=np.int32)
    texts = TokenizedTexts(np.array([0, 6]), tokens + 10, tokens, tokens + 1, tokens + 1, entities=((),), unaligned=0)
    windows = training_windows(
        texts, cls_id=2, sep_id=3, window=6, overlap=overlap, tags_count_in_every_window=every_window
    )
    assert windows.row_splits.tolist() == [6 * window for window in range(len(tag_ids) + 1)]
    assert windows.tag_ids.reshape(-1, 6).tolist() == [[NO_TAG, *row, NO_TAG] for row in tag_ids]
    assert np.all((windows.token_ids - 9 == windows.tag_ids) | (windows.tag_ids == NO_TAG))


def test_tags_that_do_not_count_are_left_out_of_every_window():
    tokens = np.arange(6, dtype=np.int32)
    texts = TokenizedTexts(np.array([0, 6]), tokens + 10, tokens, tokens + 1, tokens + 1, entities=((),), unaligned=0)
    windows = training_windows(
        texts, cls_id=2, sep_id=3, window=6, overlap=0, counted=tokens != 3, tags_count_in_every_window=True
    )
    assert windows.tag_ids.reshape(-1, 6)[:, 1:-1].tolist() == [[1, 2, 3, NO_TAG], [3, NO_TAG, 5, 6]]


def test_a_batch_holds_its_windows(training_arguments):
    texts = read_texts(training_arguments.eval_files, split="dev")
    windows = training_windows(texts, cls_id=2, sep_id=3, window=32, overlap=2)
    batch = windows.batch(np.array([2, 0]))
    assert batch.row_lengths.tolist() == [7, 10]
    assert batch.token_ids.tolist() == [2, *texts.token_ids[18:23], 3, 2, *texts.token_ids[:8], 3]
    assert batch.tag_ids.tolist() == [NO_TAG, *texts.tag_ids[18:23], NO_TAG, NO_TAG, *texts.tag_ids[:8], NO_TAG]


@given(
    lengths=st.lists(st.integers(3, 64), min_size=1, max_size=300),
    batch_tokens=st.integers(64, 400),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=80)
def test_batches_hold_every_window_once_within_the_budget(lengths, batch_tokens, seed):
    array = np.array(lengths)
    batches = epoch_batches(array, batch_tokens=batch_tokens, seed=seed, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    sizes = [int(array[batch].sum()) for batch in batches]
    assert max(sizes) <= batch_tokens
    # Each pair of neighbours in a greedy filling exceeds the budget, so there are fewer than this many.
    assert len(batches) <= 2 * sum(lengths) / batch_tokens + 1


def test_batches_are_balanced_and_change_with_epoch_and_seed_only():
    lengths = np.random.default_rng(1).integers(3, 60, 500)

    def plan(seed, epoch):
        return [batch.tolist() for batch in epoch_batches(lengths, batch_tokens=512, seed=seed, epoch=epoch)]

    assert plan(1, 0) == plan(1, 0)
    assert plan(1, 0) != plan(1, 1)
    assert plan(1, 0) != plan(2, 0)
    sizes = [lengths[batch].sum() for batch in plan(1, 0)]
    assert min(sizes) > 0.7 * max(sizes), "a remnant weighs as much as a full batch"


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([0, 0], [(0, 2)], id="empty texts"),
        pytest.param([4, 6, 1], [(0, 2), (2, 3)], id="just full"),
        pytest.param([50, 50], [(0, 1), (1, 2)], id="longer than a batch"),
    ],
)
def test_text_batches(lengths, expected):
    splits = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    assert list(text_batches(splits, batch_tokens=10)) == expected
