"""Strict entity-level scores: what counts as found, and precision, recall and F1 from the counts.

An entity is found when a prediction has the same start, end and type. Counts add up: over texts, over files, over the
workers of a Beam pipeline; ratios are taken once, at the end.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from components.annotated_text import Entity


@dataclasses.dataclass(frozen=True)
class Scores:
    """Precision, recall and F1, each from 0 to 1; a ratio without a denominator is 0."""

    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many entities were found, predicted and annotated.

    Args:
        true_positive: predicted entities that are gold entities.
        predicted: predicted entities.
        gold: annotated entities, the support.
    """

    true_positive: int = 0
    predicted: int = 0
    gold: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_positive + other.true_positive, self.predicted + other.predicted, self.gold + other.gold
        )

    def scores(self) -> Scores:
        """Returns precision TP / predicted, recall TP / gold and F1 = 2 TP / (predicted + gold).

        Example:
            >>> Counts(true_positive=1, predicted=2, gold=1).scores()
            Scores(precision=0.5, recall=1.0, f1=0.6666666666666666)
        """
        return Scores(
            precision=_ratio(self.true_positive, self.predicted),
            recall=_ratio(self.true_positive, self.gold),
            f1=_ratio(2 * self.true_positive, self.predicted + self.gold),
        )


@dataclasses.dataclass(frozen=True)
class StrictReport:
    """The counts of each entity type over some texts; reports of disjoint texts add up to the report of all.

    Args:
        texts: how many texts were compared.
        per_type: the counts of each type that was annotated or predicted.
    """

    texts: int = 0
    per_type: Mapping[str, Counts] = dataclasses.field(default_factory=dict)

    def __add__(self, other: StrictReport) -> StrictReport:
        names = {*self.per_type, *other.per_type}
        return StrictReport(
            self.texts + other.texts,
            {name: self.per_type.get(name, Counts()) + other.per_type.get(name, Counts()) for name in names},
        )

    @property
    def micro(self) -> Counts:
        """The counts over all types: a found entity has the right type, so the types partition each count."""
        return sum(self.per_type.values(), Counts())

    def to_json(self) -> dict[str, Any]:
        """Returns `{"strict": scores, "per_type": {type: scores and "support"}}`, the types in alphabetical order."""
        return {
            "strict": dataclasses.asdict(self.micro.scores()),
            "per_type": {
                name: {**dataclasses.asdict(counts.scores()), "support": counts.gold}
                for name, counts in sorted(self.per_type.items())
            },
        }


def count_entities(gold: Iterable[Entity], predicted: Iterable[Entity]) -> StrictReport:
    """Compares the entities of one text, as sets of (start, end, type).

    Example:
        >>> count_entities(gold=[Entity(0, 2, "LOC")], predicted=[Entity(0, 2, "LOC"), Entity(3, 5, "PER")]).micro
        Counts(true_positive=1, predicted=2, gold=1)
    """
    gold_set, predicted_set = set(gold), set(predicted)
    true_positive = collections.Counter(entity.type for entity in gold_set & predicted_set)
    predicted_of = collections.Counter(entity.type for entity in predicted_set)
    gold_of = collections.Counter(entity.type for entity in gold_set)
    return StrictReport(
        texts=1,
        per_type={
            name: Counts(true_positive[name], predicted_of[name], gold_of[name]) for name in {*predicted_of, *gold_of}
        },
    )


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 0.0
