"""Linear chains over packed sequences: the best path, and sums over all paths, exactly and without padding.

A path gives a state to each slot of a sequence; its score is the sum of the emissions of its states and of the
transitions between them, and its probability is in proportion to exp(score / temperature) (Lafferty, McCallum and
Pereira 2001, https://repository.upenn.edu/cis_papers/159). All sequences of a batch stand one behind another as one
chain, separated by slots in which only one state, the boundary, is possible: nothing that stands before it tells
anything of what stands behind it.

Axis letters: M units of all sequences, B sequences, K labels, S states (the labels, then the boundary, then what else
the caller needs), N slots, C slots of a block, G blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from components.segments import segment_ids

# Far below any difference of log-probabilities that a classifier produces, yet exact to add up in float32.
IMPOSSIBLE = -1e4
# The emission of a state that cannot stand in a slot: worse than whatever legal detour there is around it.
EXCLUDED = 4 * IMPOSSIBLE
# By how much the emission of a state may exceed that of the best path, in sums. A classifier is never forced to give up
# so much in one place: with BIO labels the next legal choice costs what B-x costs against I-x, where the entity might
# have begun.
GREATEST_GAIN = 200.0
# Slots that are summed one after another by operations of the graph, all blocks at once: a step takes two operations
# of 3 us each, where one of `tf.while_loop` takes 50 to 100 us. Most sentences are one block.
BLOCK_SLOTS = 32


class Transitions(NamedTuple):
    """What the step from one state to the next adds.

    Attributes:
        scores: float32 [S, S], from row to column.
        allowed: bool [S, S]; other steps are impossible.
    """

    scores: tf.Tensor
    allowed: np.ndarray


class Slots(NamedTuple):
    """Sequences as one chain: a boundary before each of them, and one behind the last.

    Attributes:
        emissions: float32 [N, S], relative to the best label of the unit; `EXCLUDED` where a state cannot stand.
        unit_slot: int32 [M], the slot of each unit.
    """

    emissions: tf.Tensor
    unit_slot: tf.Tensor


class Messages(NamedTuple):
    """Sums over the paths that lead to a slot, and over those that lead from it, relative to a reference path.

    With x[n, s] the emission of the slot, relative to that of the reference: forward[n, s] sums exp over all paths from
    the first slot to state s of slot n, x[n, s] included; backward[n, s] over all paths from there to the last slot,
    x[n, s] included as well. The entries of the reference path are at least 1.

    Attributes:
        forward: float64 [N, S], times exp(forward_log_scale).
        backward: float64 [N, S], times exp(backward_log_scale).
        forward_log_scale: float64 [N].
        backward_log_scale: float64 [N].
        weights: float64 [S, S], exp of the transitions, 0 where they are impossible.
        emission_factors: float64 [N, S], exp of the emissions relative to the reference path.
        step_factors: float64 [N], exp of the reference path's negative transition from slot n to n + 1; 1 at the last.
        reference_score: float64 [], the score of the reference path.
    """

    forward: tf.Tensor
    backward: tf.Tensor
    forward_log_scale: tf.Tensor
    backward_log_scale: tf.Tensor
    weights: tf.Tensor
    emission_factors: tf.Tensor
    step_factors: tf.Tensor
    reference_score: tf.Tensor


def lay_out(scores: tf.Tensor, lengths: tf.Tensor) -> Slots:
    """Lays sequences out as one chain of N = M + B + 1 slots with S = K + 1 states.

    Args:
        scores: float32 [M, K], the units of all sequences one after another.
        lengths: int32 [B], units of each sequence, which may be 0; they sum to M.
    """
    unit_count, label_count = tf.shape(scores)[0], scores.shape[-1]
    # Relative to the best label of each unit nearly all scores are 0, so that sums stay exact over 100,000 tokens.
    relative = tf.maximum(scores - tf.reduce_max(scores, axis=-1, keepdims=True), IMPOSSIBLE)
    # A model served in float16 may overflow on some text: its tokens then tell nothing, but no request may raise.
    relative = tf.where(tf.math.is_nan(relative), 0.0, relative)
    unit_slot = tf.range(unit_count) + 1 + segment_ids(tf.concat([[0], tf.cumsum(lengths)], axis=0))
    slot_count = unit_count + tf.size(lengths) + 1
    boundary = tf.one_hot([label_count], label_count + 1, on_value=0.0, off_value=EXCLUDED)  # [1, S]
    units = tf.pad(relative, [[0, 0], [0, 1]], constant_values=EXCLUDED)
    separators = tf.tile(boundary, [slot_count, 1])
    return Slots(tf.tensor_scatter_nd_update(separators, unit_slot[:, tf.newaxis], units), unit_slot)


def best_path(emissions: tf.Tensor, transitions: Transitions, boundary: int) -> tf.Tensor:
    """Returns the path with the greatest score: int32 [N], by the Viterbi kernel of TF Text.

    Args:
        emissions: float32 [N, S], see `Slots`; sums over 100,000 slots stay exact where they are relative to the best.
        transitions: between the S states.
        boundary: the first of the states in which the chain may begin and end.
    """
    # The kernel has an index more, the place before the first slot and behind the last.
    allowed = np.pad(transitions.allowed, [[0, 1], [0, 1]])
    allowed[-1, boundary:] = allowed[boundary:, -1] = True
    path = tf_text.viterbi_constrained_sequence(
        emissions[tf.newaxis],
        tf.shape(emissions)[:1],
        allowed_transitions=allowed,
        transition_weights=tf.pad(transitions.scores, [[0, 1], [0, 1]]),
        use_log_space=True,
        use_start_and_end_states=True,
    )
    return tf.ensure_shape(path.flat_values, [None])


def sum_paths(
    emissions: tf.Tensor,
    transitions: Transitions,
    reference: tf.Tensor,
    boundary: int,
    temperature: float | tf.Tensor = 1.0,
) -> Messages:
    """Sums over all paths, forward and backward.

    Sums relative to the best path neither overflow nor underflow within a block of `BLOCK_SLOTS` slots: it contributes
    1 to each, and all others at most S^32 e^(price of a detour to it), in float64. All blocks are summed at once. What
    leads into a block is known from the block before it where that holds a boundary, as nothing passes it; where it
    lies inside a text, the product of the block's S x S matrices takes it through. So time is N S^2, and S^3 for each
    slot of a block inside a text; memory is N S.

    Args:
        emissions: float32 [N, S], see `Slots`; the first and the last slot are separators.
        transitions: between the S states; all steps between separators are allowed and score 0.
        reference: int32 [N], the best path.
        boundary: the state before the first slot and behind the last.
        temperature: by which scores are divided.
    """
    slot_count, state_count = tf.shape(emissions)[0], len(transitions.allowed)
    coldness = 1.0 / tf.cast(temperature, tf.float64)
    # In float64 throughout, so that the score of the reference and the sums round alike.
    scores = tf.cast(transitions.scores, tf.float64) * coldness
    weights = tf.where(transitions.allowed, tf.exp(scores), tf.zeros([], tf.float64))
    values = tf.cast(emissions, tf.float64)
    possible = values > 2 * IMPOSSIBLE
    values *= coldness
    chosen = tf.gather(values, reference, axis=1, batch_dims=1)
    relative = tf.minimum(values - chosen[:, tf.newaxis], GREATEST_GAIN)
    factors = tf.where(possible, tf.exp(relative), tf.zeros([], tf.float64))
    steps = tf.gather_nd(scores, tf.stack([reference[:-1], reference[1:]], axis=1))  # [N-1]
    before = tf.exp(-tf.pad(steps, [[1, 0]]))[:, tf.newaxis]
    behind = tf.exp(-tf.pad(steps, [[0, 1]]))[:, tf.newaxis]

    block_count = (slot_count + BLOCK_SLOTS - 1) // BLOCK_SLOTS
    padding = block_count * BLOCK_SLOTS - slot_count
    filler = tf.one_hot(tf.fill([padding], boundary), state_count, dtype=tf.float64)
    # Forward, and backward from the last slot to the first: two chains side by side, [2, G C, S].
    both = tf.stack(
        [tf.concat([factors * before, filler], 0), tf.reverse(tf.concat([factors * behind, filler], 0), [0])]
    )
    slots = tf.unstack(
        tf.transpose(tf.reshape(both, [2, -1, BLOCK_SLOTS, state_count]), [2, 0, 1, 3]), BLOCK_SLOTS
    )  # C times [2, G, S]
    path = tf.pad(reference, [[0, padding]], constant_values=boundary)
    paths = tf.reshape(tf.stack([path, tf.reverse(path, [0])]), [2, -1, BLOCK_SLOTS])
    directed = tf.stack([weights, tf.transpose(weights)])  # [2, S, S]
    begin = tf.fill([2, 1], boundary)
    start = tf.cond(
        block_count > 1,
        lambda: _block_starts(slots, directed, paths, begin),
        lambda: tf.one_hot(begin, state_count, dtype=tf.float64),
    )
    messages = _through_block(start, slots, directed)
    gains = tf.math.log(tf.gather(messages[-1], paths[:, :, -1], axis=2, batch_dims=2))  # [2, G]
    log_scale = tf.cumsum(gains, axis=1, exclusive=True)
    log_scales = tf.reshape(tf.tile(log_scale[:, :, tf.newaxis], [1, 1, BLOCK_SLOTS]), [2, -1])
    all_messages = tf.reshape(tf.transpose(tf.stack(messages), [1, 2, 0, 3]), [2, -1, state_count])
    return Messages(
        forward=all_messages[0, :slot_count],
        backward=tf.reverse(all_messages[1], [0])[:slot_count],
        forward_log_scale=log_scales[0, :slot_count],
        backward_log_scale=tf.reverse(log_scales[1], [0])[:slot_count],
        weights=weights,
        emission_factors=factors,
        step_factors=behind[:, 0],
        reference_score=tf.reduce_sum(chosen) + tf.reduce_sum(steps),
    )


def _through_block(message: tf.Tensor, slots: list[tf.Tensor], directed: tf.Tensor) -> list[tf.Tensor]:
    """Returns the messages at each of the C slots of all blocks, [2, G, S], from those before the first."""
    messages = []
    for slot in slots:
        message = tf.matmul(message, directed) * slot
        messages.append(message)
    return messages


def _block_starts(slots: list[tf.Tensor], directed: tf.Tensor, paths: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
    """Returns what leads into each block: float64 [2, G, S], 1 at the reference path.

    Args:
        slots: float64 [2, G, S], C times: the factors of each slot, forward and backward.
        directed: float64 [2, S, S], the transitions, forward and backward.
        paths: int32 [2, G, C], the reference path, forward and backward.
        begin: int32 [2, 1], the state before the first block.
    """
    state_count = directed.shape[-1]
    last_states = paths[:, :, -1]  # [2, G]
    before = tf.concat([begin, last_states[:, :-1]], axis=1)
    guess = tf.one_hot(before, state_count, dtype=tf.float64)
    # Behind a boundary nothing is left of what stood before it but a factor: whatever leads into a block with a
    # boundary in it, its end is this.
    ends = _normalized(_through_block(guess, slots, directed)[-1], last_states)
    inner = tf.reduce_all(paths[0] < begin[0, 0], axis=1)  # [G], no boundary in the block

    def through_texts() -> tf.Tensor:
        blocks = tf.where(inner)[:, 0]
        product = tf.linalg.diag(tf.gather(slots[0][0], blocks))
        for slot in slots[1:]:
            # One product of a tall matrix: all blocks step by the same transitions.
            stepped = tf.matmul(tf.reshape(product, [-1, state_count]), directed[0])
            product = tf.reshape(stepped, tf.shape(product)) * tf.gather(slot[0], blocks)[:, tf.newaxis]
        # Backward it is the same product, transposed.
        products = tf.matmul(directed, tf.stack([product, tf.transpose(product, [0, 2, 1])], axis=1))  # [., 2, S, S]
        number = tf.cumsum(tf.cast(inner, tf.int32)) - 1
        numbers = tf.maximum(tf.stack([number, tf.reverse(number, [0])], axis=1), 0)  # [G, 2]
        is_inner = tf.stack([inner, tf.reverse(inner, [0])], axis=1)  # [G, 2]
        ends_of_block, states = tf.transpose(ends, [1, 0, 2]), tf.transpose(last_states)

        def step(block: tf.Tensor, start: tf.Tensor, starts: tf.TensorArray) -> tuple[tf.Tensor, ...]:
            place = tf.stack([numbers[block], [0, 1]], axis=1)
            through = tf.matmul(start[:, tf.newaxis], tf.gather_nd(products, place))[:, 0]  # [2, S]
            onward = tf.where(is_inner[block][:, tf.newaxis], _normalized(through, states[block]), ends_of_block[block])
            return block + 1, onward, starts.write(block, start)

        block_count = tf.shape(inner)[0]
        _, _, starts = tf.while_loop(
            lambda block, *_: block < block_count,
            step,
            (
                tf.constant(0),
                guess[:, 0],
                tf.TensorArray(tf.float64, block_count, element_shape=[2, state_count]),
            ),
        )
        return tf.transpose(starts.stack(), [1, 0, 2])

    return tf.cond(tf.reduce_any(inner), through_texts, lambda: tf.concat([guess[:, :1], ends[:, :-1]], axis=1))


def _normalized(message: tf.Tensor, states: tf.Tensor) -> tf.Tensor:
    """Returns messages [.., S] relative to their entries at `states` [..]."""
    rank = states.shape.rank
    return message / tf.gather(message, states, axis=rank, batch_dims=rank)[..., tf.newaxis]


def log_partition(messages: Messages, boundary: int) -> tf.Tensor:
    """Returns the log of the sum of exp(score / temperature) over all paths: float64 []."""
    last = tf.reduce_sum(messages.forward[-1] * messages.weights[:, boundary])
    return tf.math.log(last) + messages.forward_log_scale[-1] + messages.reference_score


def marginals(messages: Messages, boundary: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients of `log_partition` by emissions and transitions, at the temperature 1.

    Returns:
        The probability of each state in each slot, float64 [N, S], and how often each transition is expected in the
        chain, float64 [S, S].
    """
    end = messages.weights[:, boundary][tf.newaxis]
    onward = (
        tf.matmul(messages.backward[1:], messages.weights, transpose_b=True) * messages.step_factors[:-1, tf.newaxis]
    )
    through = messages.forward * tf.concat([onward, end], axis=0)  # [N, S]
    total = tf.reduce_sum(through, axis=1, keepdims=True)
    leaving = messages.forward[:-1] / total[:-1] * messages.step_factors[:-1, tf.newaxis]
    expected = messages.weights * tf.matmul(leaving, messages.backward[1:], transpose_a=True)
    return through / total, expected
