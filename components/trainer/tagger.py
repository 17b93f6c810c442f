"""The tagger: encoder, fusion of its layers, and a linear classifier of every token.

Axes: N packed tokens, B rows, L layers, H hidden size, K tags.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from components.trainer.encoder import Encoder, truncated_normal
from components.trainer.encoder_config import EncoderConfig
from components.trainer.fusion import FusionName, make_fusion
from components.trainer.packing import plan_rows


class TaggerOutput(NamedTuple):
    """What the tagger says of every packed token.

    Args:
        logits: float32 [N, K].
        layer_weights: float32 [N, L], the share of each layer in the token's representation.
    """

    logits: tf.Tensor
    layer_weights: tf.Tensor


class Classifier(tf.Module):
    """`hidden · output_weights^T + output_bias`, with `output_weights` [K, H] as in the seed model."""

    def __init__(self, tag_count: int, weights: tf.Tensor) -> None:
        super().__init__()
        self.output_weights = tf.Variable(weights, name="output_weights")
        self.output_bias = tf.Variable(tf.zeros([tag_count]), name="output_bias")

    def __call__(self, hidden: tf.Tensor) -> tf.Tensor:
        """Returns the logits, float32 [N, K], of `hidden` [N, H]."""
        weights = tf.cast(self.output_weights, hidden.dtype)
        return tf.nn.bias_add(tf.cast(tf.matmul(hidden, weights, transpose_b=True), tf.float32), self.output_bias)


class FusionTagger(tf.Module):
    """BERT tagger whose classifier reads a weighted sum of all encoder layers.

    Rows are packed one after another, each with its [CLS] and [SEP], so nothing is padded outside attention, and the
    result for a row does not depend on its neighbours. Rows longer than `encoder_config.max_positions` are the
    caller's mistake: on CPU they raise, on GPU their surplus positions read as zeros.

    Args:
        encoder_config: shape of the encoder.
        tag_count: number K of tags.
        fusion: "dynamic" (weights chosen by each token), "static" (one trained weight per layer) or "last".
        seed: makes the initial weights reproducible; None draws them at random.
        compute_dtype: type of the matrix products: "float32", "bfloat16" or "float16".
        variable_dtype: type in which the encoder's matrices are stored; the other weights are float32.
        transitions: float32 [K+1, K+1], see `decode_tags`: what the trained transitions of a conditional random field
            start from. None makes none: the classifier tags each token by itself.

    Raises:
        ValueError: `tag_count` or `fusion` is impossible, or `transitions` has another shape.

    Example:
        >>> tagger = FusionTagger(EncoderConfig(vocab_size=100), tag_count=3)
        >>> tagger(tf.constant([2, 7, 3, 2, 8, 9, 3]), tf.constant([3, 4])).logits.shape
        TensorShape([7, 3])
    """

    def __init__(
        self,
        encoder_config: EncoderConfig,
        tag_count: int,
        fusion: FusionName = "dynamic",
        *,
        seed: int | None = None,
        compute_dtype: str = "float32",
        variable_dtype: str = "float32",
        transitions: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        if tag_count < 1:
            raise ValueError(f"tag_count: expected a positive number; received {tag_count}")
        self.encoder_config = encoder_config
        self.tag_count = tag_count
        self.fusion_name = fusion
        hidden_size = encoder_config.hidden_size
        # The head draws from a seed of its own: the same seed gives the same head on every encoder.
        initializer = truncated_normal(encoder_config.initializer_range, None if seed is None else seed + 1)
        self.encoder = Encoder(encoder_config, seed=seed, compute_dtype=compute_dtype, variable_dtype=variable_dtype)
        self.classifier = Classifier(tag_count, initializer((tag_count, hidden_size)))
        self.fusion = make_fusion(fusion, encoder_config.num_layers, hidden_size, initializer)
        if transitions is not None and transitions.shape != (tag_count + 1, tag_count + 1):
            raise ValueError(f"transitions: expected {tag_count + 1} rows and columns; received {transitions.shape}")
        self.transitions = None if transitions is None else tf.Variable(transitions, name="transitions")

    def __call__(
        self,
        token_ids: tf.Tensor,
        row_lengths: tf.Tensor,
        *,
        attended_lengths: tf.Tensor | None = None,
        training: bool = False,
    ) -> TaggerOutput:
        """Tags packed rows.

        Args:
            token_ids: int32 [N], the rows one after another, each with [CLS] and [SEP].
            row_lengths: int32 [B], which sum to N.
            attended_lengths: int32 [B], how many tokens of each row are attended to; None for all. Only a comparison
                with a padded model needs it, for the numbers that such a model has in its padding.
            training: applies dropout.
        """
        plan = plan_rows(row_lengths, attended_lengths, num_heads=self.encoder_config.num_heads)
        layers = self.encoder(token_ids, plan, training=training)
        fused = self.fusion(layers)
        return TaggerOutput(self.classifier(fused.hidden), fused.layer_weights)

    def in_precision(self, dtype: str) -> FusionTagger:
        """Returns a copy that stores the encoder's matrices and computes all products in `dtype`, for serving."""
        copy = FusionTagger(
            self.encoder_config,
            self.tag_count,
            self.fusion_name,
            compute_dtype=dtype,
            variable_dtype=dtype,
            transitions=None if self.transitions is None else np.zeros(self.transitions.shape, np.float32),
        )
        copy.assign_weights(self)
        return copy

    def assign_weights(self, other: FusionTagger) -> None:
        """Takes the weights of a tagger of the same shape, in whichever precision it stores them."""
        for variable, source in zip(self.trainable_variables, other.trainable_variables, strict=True):
            variable.assign(tf.cast(source, variable.dtype))

    def named_variables(self) -> dict[str, tf.Variable]:
        """Returns the weights by name, for example "bert/encoder/layer_0/output/dense/kernel".

        Weights of the encoder start with "bert/"; LayerNorms end in "LayerNorm/gamma" and "LayerNorm/beta", biases in
        "bias".
        """
        return {variable.name.removesuffix(":0"): variable for variable in self.trainable_variables}
