"""BERT's encoder in NumPy, padded, in float64: an independent reference for the encoder on packed rows."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from components.trainer.encoder_config import EncoderConfig


def padded_layers(
    weights: Mapping[str, np.ndarray], config: EncoderConfig, token_ids: np.ndarray, mask: np.ndarray
) -> list[np.ndarray]:
    """Returns the outputs of all layers, [B, S, H] each.

    Args:
        weights: by their names in google-research/bert.
        config: the shape.
        token_ids: int [B, S].
        mask: bool [B, S], False in padding.
    """

    def dense(inputs: np.ndarray, name: str) -> np.ndarray:
        return inputs @ weights[f"{name}/kernel"].astype(np.float64) + weights[f"{name}/bias"]

    def layer_norm(inputs: np.ndarray, name: str) -> np.ndarray:
        centred = inputs - inputs.mean(-1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config.layer_norm_epsilon)
        return normal * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    def heads(inputs: np.ndarray) -> np.ndarray:
        return inputs.reshape(*inputs.shape[:2], config.num_heads, -1).transpose(0, 2, 1, 3)

    hidden = weights["bert/embeddings/word_embeddings"][token_ids].astype(np.float64)
    hidden = hidden + weights["bert/embeddings/token_type_embeddings"][0]
    hidden = hidden + weights["bert/embeddings/position_embeddings"][: token_ids.shape[1]]
    hidden = layer_norm(hidden, "bert/embeddings/LayerNorm")
    layers = []
    for index in range(config.num_layers):
        name = f"bert/encoder/layer_{index}"
        query, key, value = (
            heads(dense(hidden, f"{name}/attention/self/{part}")) for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(config.hidden_size / config.num_heads)
        scores = scores + np.where(mask, 0.0, -10000.0)[:, None, None, :]
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        context = (shares @ value).transpose(0, 2, 1, 3).reshape(hidden.shape)
        attended = dense(context, f"{name}/attention/output/dense")
        hidden = layer_norm(hidden + attended, f"{name}/attention/output/LayerNorm")
        inner = activation(dense(hidden, f"{name}/intermediate/dense"), config.hidden_activation)
        hidden = layer_norm(hidden + dense(inner, f"{name}/output/dense"), f"{name}/output/LayerNorm")
        layers.append(hidden)
    return layers


def activation(values: np.ndarray, name: str) -> np.ndarray:
    if name == "relu":
        return np.maximum(values, 0)
    if name == "gelu":
        return 0.5 * values * (1 + np.vectorize(math.erf, otypes=[float])(values / math.sqrt(2)))
    return 0.5 * values * (1 + np.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))
