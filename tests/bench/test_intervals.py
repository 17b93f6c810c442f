"""Means over seeds and their intervals."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bench.intervals import draw, interval, paired_difference, print_summary, scores_by_configuration


@pytest.mark.parametrize(
    ("values", "mean", "half_width"),
    [
        # Quantiles 0.975 of Student's t with 1, 2 and 4 degrees of freedom, from printed tables.
        pytest.param([1.0, 2.0], 1.5, 12.706 * math.sqrt(0.5) / math.sqrt(2), id="two values"),
        pytest.param([1.0, 2.0, 3.0], 2.0, 4.303 / math.sqrt(3), id="three values"),
        pytest.param([1.0, 2.0, 3.0, 4.0, 5.0], 3.0, 2.776 * math.sqrt(2.5) / math.sqrt(5), id="five values"),
        pytest.param([0.5, 0.5, 0.5], 0.5, 0.0, id="no spread"),
        pytest.param([0.5], 0.5, math.inf, id="one value says nothing of the spread"),
    ],
)
def test_interval(values: list[float], mean: float, half_width: float) -> None:
    assert interval(values) == pytest.approx((mean, half_width), rel=1e-3)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        interval([])


def test_paired_difference_takes_the_seeds_of_both() -> None:
    difference = paired_difference({1: 0.5, 2: 0.7, 3: 0.9}, {2: 0.5, 3: 0.7, 4: 0.1})
    assert difference == pytest.approx((0.2, 0.0), abs=1e-9)


def test_without_a_common_seed_there_is_no_difference() -> None:
    assert paired_difference({1: 0.5}, {2: 0.5}) is None


def test_a_seed_counts_once() -> None:
    with pytest.raises(ValueError, match="two results with seed 1"):
        scores_by_configuration([_result("dynamic", 1, 0.5), _result("dynamic", 1, 0.6)])


def test_summary_names_seeds_intervals_and_differences(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    scores = {"dynamic": (0.50, 0.60), "static": (0.40, 0.50), "last": (0.45, 0.50)}
    results = [_result(label, seed, score) for label, both in scores.items() for seed, score in enumerate(both)]
    print_summary(json.loads(json.dumps(results)), plot=tmp_path / "plot.png")
    printed = capsys.readouterr().out
    assert "| corpus | dynamic | 2 | 0.1000 | 0.2000 | 0.5500 ± 0.6353 | 0.3000 | 7 |" in printed
    assert "| corpus | dynamic - static | 2 | +0.1000 ± 0.0000 |" in printed
    assert "| corpus | static - last | 2 | -0.0250 ± 0.3177 |" in printed
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_one_seed_can_be_drawn(tmp_path: Path) -> None:
    draw({("corpus", "dynamic"): {1: 0.5}}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def _result(label: str, seed: int, f1: float) -> dict[str, Any]:
    return {
        "corpus": "corpus",
        "label": label,
        "seed": seed,
        "dev_f1": [0.2, 0.3],
        "processor_seconds": 7.2,
        "test": {"strict": {"precision": 0.1, "recall": 0.2, "f1": f1}},
    }
