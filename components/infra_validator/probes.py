"""Probes: requests made of real sentences, for every signature of the exported model.

Axes: B texts of one request, S tokens of its longest row.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from components.features import (
    EXAMPLES,
    EXAMPLES_SIGNATURE,
    EXPLAIN_SIGNATURE,
    PADDING_MASK,
    SERVING_SIGNATURE,
    TEXT,
    TOKEN_IDS,
    TOKENS_SIGNATURE,
)

# Rows of token ids of different lengths; 0 to 3 exist in every vocabulary, which has at least the four special tokens.
_TOKEN_ROWS = ((2, 1, 3), (2, 1, 1, 0, 1, 3), (2, 3))


@dataclasses.dataclass(frozen=True)
class Probe:
    """One request.

    Args:
        signature: which signature it calls.
        inputs: its tensors, by name.
        texts: how many texts it carries; 0 for token ids.
    """

    signature: str
    inputs: Mapping[str, np.ndarray]
    texts: int

    def __str__(self) -> str:
        return f"{self.signature} with {self.texts} text{'s' * (self.texts != 1)}" if self.texts else self.signature


def read_examples(split_folder: str, count: int) -> list[bytes]:
    """Returns the first `count` serialized examples of a split, or fewer if it has no more."""
    files = sorted(tf.io.gfile.glob(f"{split_folder}/*"))
    if not files:
        return []
    compression = "GZIP" if all(file.endswith(".gz") for file in files) else ""
    return [record.numpy() for record in tf.data.TFRecordDataset(files, compression_type=compression).take(count)]


def make_probes(examples: Sequence[bytes], batch_sizes: Sequence[int], signatures: Sequence[str]) -> list[Probe]:
    """Returns the requests that try a model.

    Args:
        examples: serialized examples; their texts are sent.
        batch_sizes: each size cuts the examples into requests anew; no request has more texts than the largest.
        signatures: the signatures of the model; those that it lacks are not tried.
    """
    largest = max(batch_sizes)
    if examples:
        examples = list(itertools.islice(itertools.cycle(examples), max(len(examples), largest)))
    texts = [tf.train.Example.FromString(example).features.feature[TEXT].bytes_list.value[0] for example in examples]
    probes = []
    if SERVING_SIGNATURE in signatures:
        # The empty text has no token at all.
        probes = [Probe(SERVING_SIGNATURE, {TEXT: _strings([b""])}, 1)]
        probes += [
            Probe(SERVING_SIGNATURE, {TEXT: _strings(texts[start : start + size])}, len(texts[start : start + size]))
            for size in batch_sizes
            for start in range(0, len(texts), size)
        ]
    if EXPLAIN_SIGNATURE in signatures and texts:
        explained = [b"", *texts][:largest]
        probes.append(Probe(EXPLAIN_SIGNATURE, {TEXT: _strings(explained)}, len(explained)))
    if EXAMPLES_SIGNATURE in signatures and examples:
        probes.append(Probe(EXAMPLES_SIGNATURE, {EXAMPLES: _strings(examples[:largest])}, len(examples[:largest])))
    if TOKENS_SIGNATURE in signatures:
        token_ids = np.zeros((len(_TOKEN_ROWS), max(map(len, _TOKEN_ROWS))), np.int32)  # [B, S]
        padding_mask = np.zeros_like(token_ids)
        for row, ids in enumerate(_TOKEN_ROWS):
            token_ids[row, : len(ids)], padding_mask[row, : len(ids)] = ids, 1
        probes.append(Probe(TOKENS_SIGNATURE, {TOKEN_IDS: token_ids, PADDING_MASK: padding_mask}, 0))
    return probes


def _strings(values: Sequence[bytes]) -> np.ndarray:
    return np.array(values, dtype=object)
