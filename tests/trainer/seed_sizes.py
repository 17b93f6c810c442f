"""The sizes at which taggers are compared with the seed's own computation."""

from __future__ import annotations

import dataclasses
import os

import pytest


@dataclasses.dataclass(frozen=True)
class Size:
    """A size at which the two are compared, and how far they may differ there."""

    config: dict[str, object]
    row_lengths: tuple[int, ...]
    tolerance: float


SMALL = Size(
    {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "hidden_act": "gelu",
        "max_position_embeddings": 20,
        "type_vocab_size": 2,
    },
    row_lengths=(12, 3, 7, 1, 12),
    tolerance=5e-5,
)
BASE = Size(
    {
        "vocab_size": 21128,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    },
    row_lengths=(32, 5, 19),
    tolerance=1e-4,
)
# Of tests at the size BASE, which writes some 400 MB and takes minutes.
SLOW = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("FUSION_NER_SLOW_TESTS") != "1", reason="FUSION_NER_SLOW_TESTS is not 1"),
]
