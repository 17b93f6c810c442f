"""Lengths and operation counts that the benchmarks of the model measure with."""

from __future__ import annotations

import numpy as np
import pytest

from bench.workloads import BERT_BASE, WORKLOADS, LengthDistribution, forward_flops, in_batches, padding_factor
from components.trainer.encoder_config import EncoderConfig


@pytest.mark.parametrize("count", [pytest.param(64, id="few"), pytest.param(4096, id="many")])
@pytest.mark.parametrize("name", list(WORKLOADS))
def test_lengths_have_the_mean_and_the_bounds_of_their_workload(name: str, count: int) -> None:
    workload = WORKLOADS[name]
    lengths = workload.lengths(count)
    assert len(lengths) == count
    assert lengths.mean() == pytest.approx(workload.mean, rel=0.02)
    assert lengths.min() >= workload.shortest
    assert lengths.max() <= workload.longest


def test_the_heavy_tail_reaches_the_window() -> None:
    lengths = WORKLOADS["heavy-tailed"].lengths(4096)
    assert lengths.max() == 512
    assert np.median(lengths) < 40


def test_lengths_depend_on_nothing_but_count_and_seed() -> None:
    workload = WORKLOADS["tweets"]
    assert workload.lengths(100).tolist() == workload.lengths(100).tolist()
    assert workload.lengths(100).tolist() != workload.lengths(100, seed=2).tolist()
    assert sorted(workload.lengths(100)) == sorted(workload.lengths(100, seed=2))


def test_without_spread_all_lengths_are_equal() -> None:
    assert LengthDistribution(mean=64, sigma=0, shortest=64, longest=64).lengths(3).tolist() == [64, 64, 64]


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        pytest.param([[4, 4]], 1.0, id="equal lengths"),
        pytest.param([[1, 3]], 1.5, id="two lengths"),
        pytest.param([[1, 3], [8]], 14 / 12, id="two batches"),
    ],
)
def test_padding_factor(batches: list[list[int]], expected: float) -> None:
    assert padding_factor([np.array(batch) for batch in batches]) == pytest.approx(expected)


def test_batches_keep_order_and_sentences() -> None:
    assert [batch.tolist() for batch in in_batches(np.array([5, 6, 7]), 2)] == [[5, 6], [7]]


def test_operations_of_a_tiny_model_counted_by_hand() -> None:
    config = EncoderConfig(vocab_size=9, hidden_size=2, num_layers=3, num_heads=1, intermediate_size=5)
    rows = (2, 1)
    # A row of s tokens and H = 2, I = 5: query, key, value and output are four products [s, 2] x [2, 2], the
    # feed-forward part one [s, 2] x [2, 5] and one back, attention [s, 2] x [2, s] and [s, s] x [s, 2].
    layer = sum(2 * (4 * s * 2 * 2 + 2 * s * 2 * 5 + 2 * s * s * 2) for s in rows)
    fusion = sum(2 * (s * 2 * 3 + s * 3 * 2) for s in rows)
    classifier = sum(2 * s * 2 * 7 for s in rows)
    assert forward_flops(config, np.array(rows), tag_count=7) == 3 * layer + fusion + classifier


def test_a_token_of_bert_base_takes_two_operations_a_weight_of_its_layers() -> None:
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072)
    assert forward_flops(BERT_BASE, np.array([1]), tag_count=11) == pytest.approx(2 * weights, rel=1e-3)
