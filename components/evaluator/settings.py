"""Settings of the evaluation: the thresholds that a model has to reach to be blessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from components.settings import check


@dataclasses.dataclass(frozen=True)
class EvaluatorSettings:
    """The gates of the evaluation; a model is blessed when it passes all of them.

    Args:
        split: the split of the examples on which the scores are computed.
        minimum_f1: the least strict micro F1. The default only keeps a broken model out: set it to what the product
            needs.
        minimum_precision: the least strict micro precision, or None.
        minimum_recall: the least strict micro recall, or None.
        minimum_f1_per_type: the least strict F1 of single entity types. A type that does not occur in the split has
            F1 0 and so fails any positive minimum.
        maximum_f1_drop: how far the micro F1 may lie below that of the baseline model, in points from 0 to 1; None
            asks for no comparison. Without a baseline model it is not applied.

    Raises:
        SettingsError: a value lies outside [0, 1], or the split or a type has no name.
    """

    split: str = "test"
    minimum_f1: float = 0.1
    minimum_precision: float | None = None
    minimum_recall: float | None = None
    minimum_f1_per_type: Mapping[str, float] = dataclasses.field(default_factory=dict)
    maximum_f1_drop: float | None = None

    def __post_init__(self) -> None:
        check(bool(self.split), "split", "the name of a split", self.split)
        for name in ("minimum_f1", "minimum_precision", "minimum_recall", "maximum_f1_drop"):
            value = getattr(self, name)
            check(value is None or 0 <= value <= 1, name, "a number from 0 to 1", value)
        for entity_type, minimum in self.minimum_f1_per_type.items():
            check(bool(entity_type), "minimum_f1_per_type", "names of entity types", entity_type)
            check(0 <= minimum <= 1, f"minimum_f1_per_type.{entity_type}", "a number from 0 to 1", minimum)
