"""Expected calibration error by hand-made tables, and the property that lets Beam compute it: bins add up."""

from __future__ import annotations

import itertools

import hypothesis
import pytest
from hypothesis import strategies

from components.annotated_text import Entity
from components.evaluator.calibration import BIN_COUNT, Bin, Calibration, count_scores

RIGHT, WRONG = Entity(0, 2, "LOC"), Entity(0, 2, "PER")


def of(*scored: tuple[float, bool]) -> Calibration:
    return sum((count_scores([RIGHT], [RIGHT if right else WRONG], [score]) for score, right in scored), Calibration())


@pytest.mark.parametrize(
    ("scored", "error"),
    [
        pytest.param([], 0.0, id="nothing predicted"),
        pytest.param([(1.0, True)] * 3, 0.0, id="certain and right"),
        pytest.param([(1.0, False)] * 3, 1.0, id="certain and wrong"),
        pytest.param([(0.9, True)] * 7 + [(0.9, False)] * 3, 0.2, id="too sure"),
        pytest.param([(0.5, True)] * 3 + [(0.5, False)], 0.25, id="not sure enough"),
        pytest.param([(0.75, True), (0.75, True), (0.75, True), (0.75, False)], 0.0, id="calibrated"),
        pytest.param([(0.1, True), (0.9, False)], 0.9, id="bins do not make up for each other"),
        pytest.param([(0.5, True), (0.9, True)], 0.3, id="the mean over entities"),
    ],
)
def test_the_error_is_the_distance_of_precision_and_score(scored, error):
    assert of(*scored).expected_calibration_error == pytest.approx(error)


@pytest.mark.parametrize(
    ("score", "index"),
    [
        pytest.param(1e-38, 0, id="least"),
        pytest.param(0.06, 0, id="first"),
        pytest.param(0.07, 1, id="second"),
        pytest.param(0.95, 14, id="last"),
        pytest.param(1.0, 14, id="certain"),
    ],
)
def test_fifteen_bins_of_equal_width(score, index):
    assert BIN_COUNT == 15
    assert of((score, True)).bins[index] == Bin(1, 1, score)


def test_json_is_the_table_of_a_reliability_diagram():
    assert of((0.5, True), (0.52, False), (1.0, True)).to_json() == {
        "expected_calibration_error": pytest.approx(0.02 / 3),
        "bins": [
            {"above": 7 / 15, "predicted": 2, "mean_score": pytest.approx(0.51), "precision": 0.5},
            {"above": 14 / 15, "predicted": 1, "mean_score": 1.0, "precision": 1.0},
        ],
    }


@hypothesis.given(
    scored=strategies.lists(strategies.tuples(strategies.floats(0.001, 1.0), strategies.booleans()), max_size=20),
    cuts=strategies.lists(strategies.integers(0, 20), max_size=3),
)
def test_any_partition_adds_up_to_the_calibration_of_all(scored, cuts):
    bounds = [0, *sorted(min(cut, len(scored)) for cut in cuts), len(scored)]
    parts = [of(*scored[start:end]) for start, end in itertools.pairwise(bounds)]
    total, expected = sum(reversed(parts), Calibration()), of(*scored)
    assert total.expected_calibration_error == pytest.approx(expected.expected_calibration_error)
    assert [each.predicted for each in total.bins] == [each.predicted for each in expected.bins]
    assert 0 <= total.expected_calibration_error <= 1
