"""Training data: transformed examples in memory, and the batches of each epoch.

Everything is held as flat arrays of 4 bytes a value: a corpus takes about 20 bytes a token, so 100 million tokens need
2 GB. Batches are filled to a number of tokens and hold no padding; no text is dropped or cut.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from components import features
from components.annotated_text import Entity
from components.trainer.loss import NO_TAG
from components.trainer.windows import cut_windows

# Windows are sorted by length within a pool of so many batches, which keeps the padding inside attention small while
# the composition of batches still changes from epoch to epoch.
POOL_BATCHES = 16
PARSED_TOGETHER = 1024
BALANCING_ROUNDS = 12


class TrainingDataError(ValueError):
    """Raised when the examples cannot train a tagger; the message names the split, the fault and the remedy."""


@dataclasses.dataclass(frozen=True)
class TokenizedTexts:
    """Texts as Transform leaves them; tokens of all texts lie one after another.

    Attributes:
        row_splits: int64 [B+1], text i has the tokens row_splits[i] to row_splits[i+1].
        token_ids: int32 [tokens], without [CLS] and [SEP].
        token_start: int32 [tokens], code points.
        token_end: int32 [tokens], exclusive.
        tag_ids: int32 [tokens].
        entities: the gold entities of each text, also those that no run of word pieces covers.
        unaligned: number of entities that no run of word pieces covers exactly.
    """

    row_splits: np.ndarray
    token_ids: np.ndarray
    token_start: np.ndarray
    token_end: np.ndarray
    tag_ids: np.ndarray
    entities: tuple[tuple[Entity, ...], ...]
    unaligned: int

    def __len__(self) -> int:
        return len(self.entities)

    @property
    def entity_count(self) -> int:
        """Number of gold entities."""
        return sum(map(len, self.entities))

    def fingerprint(self) -> str:
        """Returns a hash of everything training reads."""
        digest = hashlib.sha256()
        for array in (self.row_splits, self.token_ids, self.token_start, self.token_end, self.tag_ids):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr(self.entities).encode())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class TrainingWindows:
    """Windows of texts, packed one after another.

    Attributes:
        row_splits: int64 [W+1], window i has the tokens row_splits[i] to row_splits[i+1].
        token_ids: int32 [N], with [CLS] and [SEP].
        tag_ids: int32 [N], `NO_TAG` at [CLS], [SEP], tokens that do not count at all, and, unless tags count in every
            window, tokens that count in another one, so that every token of a text counts at most once.
    """

    row_splits: np.ndarray
    token_ids: np.ndarray
    tag_ids: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each window: int64 [W]."""
        return np.diff(self.row_splits)

    def batch(self, rows: np.ndarray) -> TrainingBatch:
        """Returns the windows `rows` as one batch."""
        lengths = self.lengths[rows]
        positions = _ranges(self.row_splits[rows], lengths)
        return TrainingBatch(self.token_ids[positions], lengths.astype(np.int32), self.tag_ids[positions])


@dataclasses.dataclass(frozen=True)
class TrainingBatch:
    """Arguments of a training step: token_ids int32 [N], row_lengths int32 [W], tag_ids int32 [N]."""

    token_ids: np.ndarray
    row_lengths: np.ndarray
    tag_ids: np.ndarray


def read_texts(file_patterns: Sequence[str], *, split: str) -> TokenizedTexts:
    """Reads transformed examples from gzipped TFRecord files.

    Args:
        file_patterns: as the Trainer's `fn_args.train_files` and `fn_args.eval_files`.
        split: name of the split, for messages.

    Raises:
        TrainingDataError: there are no files or no examples.
    """
    files = sorted(name for pattern in file_patterns for name in tf.io.gfile.glob(pattern))
    if not files:
        raise TrainingDataError(f"split {split}: no file matches {', '.join(file_patterns) or 'the empty list'}")
    ragged = {
        name: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
        for name, dtype in (
            (features.TOKEN_IDS, tf.int64),
            (features.TOKEN_START, tf.int64),
            (features.TOKEN_END, tf.int64),
            (features.TAG_IDS, tf.int64),
            (features.ENTITY_START, tf.int64),
            (features.ENTITY_END, tf.int64),
            (features.ENTITY_TYPE, tf.string),
            (features.UNALIGNED_ENTITY, tf.int64),
        )
    }
    dataset = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(PARSED_TOGETHER)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ragged}
    token_counts: list[np.ndarray] = [np.zeros([1], np.int64)]
    entities: list[tuple[Entity, ...]] = []
    for parsed in dataset.map(lambda serialized: tf.io.parse_example(serialized, ragged)):
        for name, values in parsed.items():
            columns[name].append(values.flat_values.numpy())
        token_counts.append(parsed[features.TOKEN_IDS].row_lengths().numpy())
        entities.extend(
            tuple(Entity(start, end, entity_type.decode()) for start, end, entity_type in zip(*row, strict=True))
            for row in zip(
                *(
                    parsed[name].to_list()
                    for name in (features.ENTITY_START, features.ENTITY_END, features.ENTITY_TYPE)
                ),
                strict=True,
            )
        )
    if not entities:
        raise TrainingDataError(f"split {split}: {len(files)} files hold no example; give it annotated text")

    def column(name: str) -> np.ndarray:
        return np.concatenate(columns[name]).astype(np.int32)

    return TokenizedTexts(
        row_splits=np.cumsum(np.concatenate(token_counts)),
        token_ids=column(features.TOKEN_IDS),
        token_start=column(features.TOKEN_START),
        token_end=column(features.TOKEN_END),
        tag_ids=column(features.TAG_IDS),
        entities=tuple(entities),
        unaligned=len(column(features.UNALIGNED_ENTITY)),
    )


def training_windows(
    texts: TokenizedTexts,
    *,
    cls_id: int,
    sep_id: int,
    window: int,
    overlap: int,
    counted: np.ndarray | None = None,
    tags_count_in_every_window: bool = False,
) -> TrainingWindows:
    """Cuts texts into the windows that serving cuts them into, see `cut_windows`.

    Args:
        texts: of the train split.
        cls_id: of [CLS].
        sep_id: of [SEP].
        window: tokens of a window at most.
        overlap: tokens that neighbouring windows share.
        counted: bool [tokens], whose tags count in the loss; None takes all.
        tags_count_in_every_window: whether a token that stands in several windows counts in each, or only in the one
            that owns it. Windows share tokens even where `overlap` is 0: the last one is moved back until it is full.
    """
    ragged = tf.RaggedTensor.from_row_splits(texts.token_ids, texts.row_splits)
    windows = cut_windows(ragged, cls_id=cls_id, sep_id=sep_id, window=window, overlap=overlap)
    counted_ids = texts.tag_ids if counted is None else np.where(counted, texts.tag_ids, np.int32(NO_TAG))
    if tags_count_in_every_window:
        # Tags that are cut as the tokens are, with none at [CLS] and [SEP].
        ragged = ragged.with_flat_values(counted_ids)
        tag_ids = cut_windows(ragged, cls_id=NO_TAG, sep_id=NO_TAG, window=window, overlap=overlap).token_ids.numpy()
    else:
        tag_ids = np.full(windows.token_ids.shape, NO_TAG, np.int32)
        tag_ids[windows.token_position.numpy()] = counted_ids
    row_splits = np.concatenate([[0], np.cumsum(windows.row_lengths.numpy(), dtype=np.int64)])
    return TrainingWindows(row_splits, windows.token_ids.numpy(), tag_ids)


def epoch_batches(lengths: np.ndarray, *, batch_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Plans the batches of one epoch, a function of its arguments only.

    All windows are shuffled; the order is cut into pools of `POOL_BATCHES` batches, sorted by length within a pool,
    cut into batches of about equal size, and the batches are shuffled.

    Args:
        lengths: tokens of each window, none longer than `batch_tokens`.
        batch_tokens: tokens a batch may have.
        seed: of the shuffling.
        epoch: which epoch, from 0; each has its own order.

    Returns:
        For each batch the indices of its windows; every window stands in exactly one batch.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    pool = np.cumsum(lengths[order]) // (POOL_BATCHES * batch_tokens)
    order = order[np.lexsort((lengths[order], pool))]
    token_ends = np.cumsum(lengths[order])
    batches = np.split(order, _balanced_cuts(token_ends, batch_tokens))
    return [batches[index] for index in generator.permutation(len(batches))]


def text_batches(row_splits: np.ndarray, *, batch_tokens: int) -> Iterator[tuple[int, int]]:
    """Cuts texts, in order, into runs of about `batch_tokens` tokens, at least one text each: first and end text."""
    count = len(row_splits) - 1
    first = 0
    while first < count:
        end = int(np.searchsorted(row_splits, row_splits[first] + batch_tokens, side="right")) - 1
        end = min(max(end, first + 1), count)
        yield first, end
        first = end


def _balanced_cuts(token_ends: np.ndarray, batch_tokens: int) -> np.ndarray:
    """Returns where to cut so that as few batches as possible hold at most `batch_tokens`, about equally many each.

    Filling each batch to the brim would leave a remnant, whose few tokens would weigh as much as a full batch.
    """
    cuts = _greedy_cuts(token_ends, batch_tokens)
    too_few, enough = int(token_ends[-1]) // (len(cuts) + 1), batch_tokens
    for _ in range(BALANCING_ROUNDS):
        middle = (too_few + enough) // 2
        candidate = _greedy_cuts(token_ends, middle)
        if len(candidate) == len(cuts) and middle > too_few:
            cuts, enough = candidate, middle
        else:
            too_few = middle
    return cuts


def _greedy_cuts(token_ends: np.ndarray, batch_tokens: int) -> np.ndarray:
    cuts: list[int] = []
    first, used = 0, 0
    while True:
        end = int(np.searchsorted(token_ends, used + batch_tokens, side="right"))
        end = max(end, first + 1)
        if end >= len(token_ends):
            return np.array(cuts, np.int64)
        cuts.append(end)
        first, used = end, int(token_ends[end - 1])


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns start, start+1, .., start+length-1 of each pair, one after another."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
