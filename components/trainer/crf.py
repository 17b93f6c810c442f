"""The loss of a trained conditional random field: it learns the transitions that decoding uses.

Axis letters: N packed tokens, W windows, K tags, U units (words or tokens) and separators, S states: the tags, the
boundary of a text, and the cut where a window goes on in its text beyond the tokens that count in it.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from components.trainer.decoding import gather_units
from components.trainer.label_scheme import LabelScheme
from components.trainer.linear_chain import (
    EXCLUDED,
    IMPOSSIBLE,
    Transitions,
    best_path,
    log_partition,
    marginals,
    sum_paths,
)


def sequence_loss(
    logits: tf.Tensor,
    row_lengths: tf.Tensor,
    tag_ids: tf.Tensor,
    transitions: tf.Tensor,
    scheme: LabelScheme,
    continues_word: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums the negative log-likelihood of the gold tags among all legal tag sequences of a batch.

    log sum over legal y of exp(score(y)) - score(gold), with the score that decoding maximises. Where words get one
    entity or none, a word is one step of the sequence. Tokens without a tag stand aside: those of a window that count
    in it are a sequence, which begins a text if it begins behind [CLS], and may follow anything where it does not.

    Args:
        logits: float32 [N, K].
        row_lengths: int32 [W], none 0; N and W may be 0.
        tag_ids: int32 [N], negative at [CLS], [SEP] and where a token does not count; the others of a row are one run.
        transitions: float32 [K+1, K+1], see `decode_tags`.
        scheme: of the tags O, B-x, I-x, B-y, I-y, ..
        continues_word: bool [N], see `decode_entities`.

    Returns:
        The sum, float32 [], and the number of tokens that it runs over, float32 [].
    """
    # A replica may be left without a row; one more, of [CLS] and [SEP], has no loss.
    logits, tag_ids = tf.pad(logits, [[0, 2], [0, 0]]), tf.pad(tag_ids, [[0, 2]], constant_values=-1)
    row_lengths = tf.concat([row_lengths, [2]], axis=0)
    if continues_word is not None:
        continues_word = tf.pad(continues_word, [[0, 2]])
    counts = tag_ids >= 0
    is_first = tf.logical_not(counts) | tf.concat([[True], tf.logical_not(counts[:-1])], axis=0)
    is_first |= True if continues_word is None else tf.logical_not(continues_word)
    units = gather_units(tf.nn.log_softmax(logits), is_first, scheme)
    places = tf.where(is_first)[:, 0]  # [U]
    gold = _gold_path(tf.gather(tag_ids, places), _is_edge(places, row_lengths), len(scheme.labels))
    emissions = _emissions(units.scores, gold)
    table = _with_cut(transitions, scheme)
    gold_score = tf.reduce_sum(tf.cast(tf.gather(emissions, gold, axis=1, batch_dims=1), tf.float64))
    gold_score += tf.reduce_sum(
        tf.cast(tf.gather_nd(table.scores, tf.stack([gold[:-1], gold[1:]], axis=1)), tf.float64)
    )
    log_sum = _log_sum(emissions, table, len(scheme.labels))
    return tf.cast(log_sum - gold_score, tf.float32), tf.reduce_sum(tf.cast(counts, tf.float32))


def _is_edge(places: tf.Tensor, row_lengths: tf.Tensor) -> tf.Tensor:
    """Returns whether each place in [N] is the first or the last of its row: bool [U]."""
    ends = tf.cast(tf.cumsum(row_lengths), tf.int64)
    edges = tf.concat([ends - tf.cast(row_lengths, tf.int64), ends - 1], axis=0)
    return tf.gather(tf.scatter_nd(edges[:, tf.newaxis], tf.ones_like(edges), ends[-1:]) > 0, places)


def _gold_path(tags: tf.Tensor, is_edge: tf.Tensor, tag_count: int) -> tf.Tensor:
    """Returns the states of the gold path, int32 [U]: tags, and boundary or cut in place of negative ones."""
    before = tf.concat([[-1], tags[:-1]], axis=0)
    follows_cut = tf.concat([[False], ~is_edge[:-1] & (tags[:-1] < 0)], axis=0)
    # An entity that begins inside a word leaves the next word with I-x and no beginning: it is one here.
    orphan = (tags > 0) & (tags % 2 == 0) & (before != tags) & (before != tags - 1) & ~follows_cut
    separator = tf.where(is_edge, tag_count, tag_count + 1)
    return tf.where(tags < 0, separator, tags - tf.cast(orphan, tf.int32))


def _emissions(scores: tf.Tensor, gold: tf.Tensor) -> tf.Tensor:
    """Returns the emissions of tags, boundary and cut, float32 [U, S]."""
    tag_count = scores.shape[-1]
    relative = scores - tf.stop_gradient(tf.reduce_max(scores, axis=-1, keepdims=True))
    units = tf.pad(tf.maximum(relative, IMPOSSIBLE), [[0, 0], [0, 2]], constant_values=EXCLUDED)
    separators = tf.one_hot(gold, tag_count + 2, on_value=0.0, off_value=EXCLUDED)
    return tf.where((gold >= tag_count)[:, tf.newaxis], separators, units)


def _with_cut(transitions: tf.Tensor, scheme: LabelScheme) -> Transitions:
    """Returns the transitions of K+2 states: nothing is known beyond a cut, and nothing is scored between texts."""
    tag_count = len(scheme.labels)
    between = np.zeros([tag_count + 1] * 2, np.float32)
    between[-1, -1] = 1.0
    allowed = np.pad(scheme.allowed, [[0, 1], [0, 1]])
    allowed[-1, :tag_count] = scheme.allowed[:tag_count, :tag_count].any(axis=0)
    allowed[:tag_count, -1] = scheme.allowed[:tag_count, :tag_count].any(axis=1)
    allowed[tag_count:, tag_count:] = True
    return Transitions(tf.pad(transitions * (1.0 - between), [[0, 1], [0, 1]]), allowed)


def _log_sum(emissions: tf.Tensor, transitions: Transitions, boundary: int) -> tf.Tensor:
    """Returns the log of the sum over all paths, float64 []; its gradients are the marginals, not a second pass."""

    @tf.custom_gradient
    def log_sum(emissions: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, object]:
        table = Transitions(scores, transitions.allowed)
        messages = sum_paths(emissions, table, best_path(emissions, table, boundary), boundary)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            by_emission, by_score = marginals(messages, boundary)
            return tf.cast(upstream * by_emission, tf.float32), tf.cast(upstream * by_score, tf.float32)

        return log_partition(messages, boundary), gradient

    return log_sum(emissions, transitions.scores)
