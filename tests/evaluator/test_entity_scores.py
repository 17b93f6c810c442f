"""Strict scores by hand-made tables, and the property that lets Beam compute them: counts add up."""

from __future__ import annotations

import itertools

import hypothesis
import pytest
from hypothesis import strategies

from components.annotated_text import Entity
from components.evaluator.entity_scores import Counts, Scores, StrictReport, count_entities

LOC, PER, ORG = "LOC", "PER", "ORG"


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        pytest.param([], [], {}, id="nothing to find and nothing found"),
        pytest.param([(0, 2, LOC)], [(0, 2, LOC)], {LOC: (1, 1, 1)}, id="found"),
        pytest.param([(0, 2, LOC)], [], {LOC: (0, 0, 1)}, id="missed"),
        pytest.param([], [(0, 2, LOC)], {LOC: (0, 1, 0)}, id="invented"),
        pytest.param([(0, 2, LOC)], [(0, 3, LOC)], {LOC: (0, 1, 1)}, id="end too far"),
        pytest.param([(0, 2, LOC)], [(1, 2, LOC)], {LOC: (0, 1, 1)}, id="start too late"),
        pytest.param([(0, 2, LOC)], [(0, 2, PER)], {LOC: (0, 0, 1), PER: (0, 1, 0)}, id="wrong type"),
        pytest.param([(0, 4, LOC)], [(0, 2, LOC), (2, 4, LOC)], {LOC: (0, 2, 1)}, id="cut in two"),
        pytest.param([(0, 2, LOC)], [(0, 2, LOC), (0, 2, LOC)], {LOC: (1, 1, 1)}, id="said twice counts once"),
        pytest.param(
            [(0, 2, LOC), (3, 5, PER), (6, 8, ORG)],
            [(0, 2, LOC), (3, 5, ORG), (6, 8, ORG), (9, 10, PER)],
            {LOC: (1, 1, 1), ORG: (1, 2, 1), PER: (0, 1, 1)},
            id="several types",
        ),
    ],
)
def test_entities_are_counted_by_start_end_and_type(gold, predicted, expected):
    report = count_entities([Entity(*each) for each in gold], [Entity(*each) for each in predicted])

    assert report.texts == 1
    assert dict(report.per_type) == {name: Counts(*counts) for name, counts in expected.items()}


@pytest.mark.parametrize(
    ("counts", "scores"),
    [
        pytest.param(Counts(), Scores(0.0, 0.0, 0.0), id="0/0 is 0"),
        pytest.param(Counts(0, 0, 3), Scores(0.0, 0.0, 0.0), id="nothing predicted"),
        pytest.param(Counts(0, 3, 0), Scores(0.0, 0.0, 0.0), id="nothing to find"),
        pytest.param(Counts(3, 3, 3), Scores(1.0, 1.0, 1.0), id="perfect"),
        pytest.param(Counts(1, 2, 4), Scores(0.5, 0.25, 1 / 3), id="harmonic mean"),
    ],
)
def test_scores_of_counts(counts, scores):
    assert counts.scores() == scores


def test_json_has_micro_scores_and_each_type_with_its_support():
    report = StrictReport(texts=4, per_type={PER: Counts(1, 2, 4), LOC: Counts(2, 2, 2)})

    assert report.micro == Counts(3, 4, 6)
    assert report.to_json() == {
        "strict": {"precision": 0.75, "recall": 0.5, "f1": 0.6},
        "per_type": {
            LOC: {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2},
            PER: {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 4},
        },
    }
    assert list(report.to_json()["per_type"]) == [LOC, PER]


def _entities():
    return strategies.lists(
        strategies.builds(
            lambda start, length, name: Entity(start, start + length, name),
            strategies.integers(0, 5),
            strategies.integers(1, 2),
            strategies.sampled_from([LOC, PER, ORG]),
        ),
        max_size=4,
    )


_TEXTS = strategies.lists(strategies.tuples(_entities(), _entities()), max_size=8)


def _report(texts):
    return sum((count_entities(gold, predicted) for gold, predicted in texts), StrictReport())


@hypothesis.given(texts=_TEXTS, cuts=strategies.lists(strategies.integers(0, 8), max_size=3))
def test_reports_of_any_partition_add_up_to_the_report_of_all(texts, cuts):
    bounds = [0, *sorted(min(cut, len(texts)) for cut in cuts), len(texts)]
    parts = [_report(texts[start:end]) for start, end in itertools.pairwise(bounds)]

    assert sum(reversed(parts), StrictReport()) == _report(texts)


@hypothesis.given(texts=_TEXTS)
def test_report_equals_one_set_over_all_texts(texts):
    """The definition, written another way: the texts' number makes one big set of each side."""
    gold = {(index, entity) for index, (entities, _) in enumerate(texts) for entity in entities}
    predicted = {(index, entity) for index, (_, entities) in enumerate(texts) for entity in entities}

    report = _report(texts)

    assert report.micro == Counts(len(gold & predicted), len(predicted), len(gold))
    for name in (LOC, PER, ORG):
        of_type = [{each for each in side if each[1].type == name} for side in (gold & predicted, predicted, gold)]
        assert report.per_type.get(name, Counts()) == Counts(*map(len, of_type))
