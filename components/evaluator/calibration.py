"""Whether scores mean what they say: how often entities of about the same score are right.

The numbers add up like the strict counts: over texts, files and the workers of a Beam pipeline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from components.annotated_text import Entity
from components.evaluator.entity_scores import Counts, Scores

# Equal widths, as Guo et al. 2017 (https://arxiv.org/abs/1706.04599) have them: bins of equal mass would depend on all
# scores at once and could not be added up.
BIN_COUNT = 15


@dataclasses.dataclass(frozen=True)
class Bin:
    """The predicted entities whose scores lie in one interval.

    Args:
        predicted: their number.
        true_positive: how many of them are gold entities.
        score_sum: the sum of their scores.
    """

    predicted: int = 0
    true_positive: int = 0
    score_sum: float = 0.0

    def __add__(self, other: Bin) -> Bin:
        return Bin(
            self.predicted + other.predicted,
            self.true_positive + other.true_positive,
            self.score_sum + other.score_sum,
        )


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The predicted entities of some texts by their scores.

    Args:
        bins: `BIN_COUNT` bins, the i-th for scores above i / 15 and up to (i + 1) / 15.
    """

    bins: tuple[Bin, ...] = (Bin(),) * BIN_COUNT

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(tuple(a + b for a, b in zip(self.bins, other.bins, strict=True)))

    @property
    def predicted(self) -> int:
        """Number of predicted entities."""
        return sum(each.predicted for each in self.bins)

    def scores(self, gold: int) -> Scores:
        """Returns the strict scores of the predicted entities against so many gold ones."""
        return Counts(sum(each.true_positive for each in self.bins), self.predicted, gold).scores()

    @property
    def expected_calibration_error(self) -> float:
        """The mean, over predicted entities, of the distance between precision and mean score of their bin; 0 for none.

        Example: ten entities with the score 0.9, seven of them right, have 0.2.
        """
        return sum(abs(each.true_positive - each.score_sum) for each in self.bins) / max(self.predicted, 1)

    def to_json(self) -> dict[str, Any]:
        """Returns the error and the table behind a reliability diagram; bins without entities are left out."""
        return {
            "expected_calibration_error": self.expected_calibration_error,
            "bins": [
                {
                    "above": index / BIN_COUNT,
                    "predicted": each.predicted,
                    "mean_score": each.score_sum / each.predicted,
                    "precision": each.true_positive / each.predicted,
                }
                for index, each in enumerate(self.bins)
                if each.predicted
            ],
        }


def count_scores(gold: Iterable[Entity], predicted: Sequence[Entity], scores: Sequence[float]) -> Calibration:
    """Sorts the predicted entities of one text into bins.

    Args:
        gold: the gold entities.
        predicted: the predicted ones, none twice.
        scores: of the predicted ones, in (0, 1].
    """
    gold_set = set(gold)
    bins = [Bin()] * BIN_COUNT
    for entity, score in zip(predicted, scores, strict=True):
        # The 15th part of 1 is no binary number; a score on the edge of a bin may fall on either side.
        index = min(max(int(score * BIN_COUNT - 1e-9), 0), BIN_COUNT - 1)
        bins[index] += Bin(1, int(entity in gold_set), float(score))
    return Calibration(tuple(bins))
