"""Fusion of the encoder's layers into one representation of each token.

Axes: N packed tokens, L layers, H hidden size.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import tensorflow as tf

from components.trainer.encoder import Dense, Initializer

FusionName = Literal["dynamic", "static", "last"]
FUSIONS: tuple[FusionName, ...] = ("dynamic", "static", "last")


class Fused(NamedTuple):
    """What a fusion returns.

    Args:
        hidden: [N, H] in the type of the layers, the weighted sum of the layers.
        layer_weights: float32 [N, L], which sum to 1 for each token.
    """

    hidden: tf.Tensor
    layer_weights: tf.Tensor


class DynamicFusion(tf.Module):
    """Weights chosen by each token: softmax over the layers i of `h_i · w_i + b_i`, as in the seed model."""

    def __init__(self, num_layers: int, hidden_size: int, initializer: Initializer) -> None:
        super().__init__()
        self.layer_logits = [
            Dense(f"layer_logit{index}", hidden_size, 1, initializer, tf.float32) for index in range(num_layers)
        ]

    def __call__(self, layers: Sequence[tf.Tensor]) -> Fused:
        logits = tf.concat([logit(layer) for logit, layer in zip(self.layer_logits, layers, strict=True)], axis=-1)
        weights = tf.nn.softmax(tf.cast(logits, tf.float32))  # [N, L]
        return Fused(_weighted_sum(layers, tf.split(weights, len(layers), axis=-1)), weights)


class StaticFusion(tf.Module):
    """One trained weight per layer, the same for all tokens: softmax over `layer_scores`, uniform at the start."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.layer_scores = tf.Variable(tf.zeros([num_layers]), name="layer_scores")

    def __call__(self, layers: Sequence[tf.Tensor]) -> Fused:
        weights = tf.nn.softmax(tf.cast(self.layer_scores, tf.float32))  # [L]
        return Fused(_weighted_sum(layers, tf.unstack(weights)), _for_each_token(weights, layers))


class LastLayer(tf.Module):
    """The last layer alone, as in BERT's own fine-tuning."""

    def __call__(self, layers: Sequence[tf.Tensor]) -> Fused:
        return Fused(layers[-1], _for_each_token(tf.one_hot(len(layers) - 1, len(layers)), layers))


def make_fusion(
    name: FusionName, num_layers: int, hidden_size: int, initializer: Initializer
) -> DynamicFusion | StaticFusion | LastLayer:
    """Returns the fusion called `name`.

    Raises:
        ValueError: there is no such fusion.
    """
    if name == "dynamic":
        return DynamicFusion(num_layers, hidden_size, initializer)
    if name == "static":
        return StaticFusion(num_layers)
    if name == "last":
        return LastLayer()
    raise ValueError(f"fusion: expected one of {', '.join(FUSIONS)}; received {name!r}")


def _weighted_sum(layers: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]) -> tf.Tensor:
    # Summed term by term: a stack [N, L, H] of the layers would be copied whole for the sake of one product.
    terms = (tf.cast(weight, layer.dtype) * layer for weight, layer in zip(weights, layers, strict=True))
    return functools.reduce(tf.add, terms)


def _for_each_token(weights: tf.Tensor, layers: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.broadcast_to(weights, [tf.shape(layers[0])[0], len(layers)])
