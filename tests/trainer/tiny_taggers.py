"""Taggers small enough for tests, with weights at which mistakes show."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from components.trainer.encoder_config import EncoderConfig
from components.trainer.fusion import FusionName
from components.trainer.tagger import FusionTagger

TINY = EncoderConfig(
    vocab_size=30, hidden_size=16, num_layers=3, num_heads=4, intermediate_size=24, max_positions=24, hidden_dropout=0.5
)


def random_tagger(
    config: EncoderConfig = TINY, fusion: FusionName = "dynamic", *, compute_dtype: str = "float32"
) -> FusionTagger:
    """Returns a tagger whose kernels, gains and biases are all random and large."""
    tagger = FusionTagger(config, tag_count=5, fusion=fusion, compute_dtype=compute_dtype)
    random = np.random.default_rng(3)
    for name, variable in tagger.named_variables().items():
        scale, shift = (0.2, 1.0) if name.endswith("gamma") else (0.3, 0.0)
        variable.assign(shift + scale * random.standard_normal(variable.shape))
    return tagger


def google_research_weights(tagger: FusionTagger) -> dict[str, np.ndarray]:
    """Returns the weights of `tagger` by their names in google-research/bert and the seed."""
    weights = {}
    for name, variable in tagger.named_variables().items():
        values = variable.numpy()
        if "query_key_value" in name:
            for part, part_values in zip(("query", "key", "value"), np.split(values, 3, axis=-1), strict=True):
                weights[name.replace("query_key_value", part)] = part_values
        elif name.endswith("_transposed"):
            weights[name.removesuffix("_transposed")] = values.T
        else:
            weights[name] = values
    return weights


def hugging_face_tensors(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns an encoder's weights as Hugging Face stores them; written without the tables of the reader."""
    tensors = {}
    for name, values in weights.items():
        if not name.startswith("bert/"):
            continue
        stored = name.removeprefix("bert/").replace("layer_", "layer/").replace("/", ".")
        if "_embeddings" in stored:
            stored += ".weight"
        if stored.endswith("kernel"):
            stored, values = stored.replace("kernel", "weight"), values.T
        tensors[stored.replace("gamma", "weight").replace("beta", "bias")] = np.ascontiguousarray(values)
    return tensors


def random_rows(row_lengths: list[int], vocab_size: int = TINY.vocab_size) -> tf.Tensor:
    """Returns packed token ids, int32 [N], which depend on the lengths alone."""
    return tf.constant(np.random.default_rng(1).integers(0, vocab_size, sum(row_lengths)), tf.int32)
