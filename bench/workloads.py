"""Lengths of sentences to measure with, and the arithmetic that tagging them takes.

Axes: N tokens, B rows, L layers, H hidden size, I intermediate size, K tags.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from components.trainer.encoder_config import EncoderConfig

# With the activation of Hugging Face's BERT models, for which PyTorch has one kernel. For "gelu_new" transformers runs
# eight operations one after another: the peer would be slow for a reason that is no merit of ours.
BERT_BASE = EncoderConfig(
    vocab_size=21128,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    intermediate_size=3072,
    hidden_activation="gelu",
)


@dataclasses.dataclass(frozen=True)
class LengthDistribution:
    """A log-normal distribution of tokens a sentence, [CLS] and [SEP] included, clipped to `shortest`..`longest`.

    Args:
        mean: of the clipped distribution.
        sigma: standard deviation of the logarithm before clipping; 0 makes all lengths equal.
        shortest: least length.
        longest: greatest length.
    """

    mean: float
    sigma: float
    shortest: int
    longest: int

    def lengths(self, count: int, *, seed: int = 1) -> np.ndarray:
        """Returns int64 [count]: the quantiles (i + 1/2) / count of the distribution, in an order drawn by `seed`.

        Quantiles rather than draws, so that few sentences have the mean and the tail of many.
        """
        if self.sigma == 0:
            return np.full([count], round(self.mean), np.int64)
        location = optimize.brentq(
            lambda mu: self._quantiles(mu, 100_000).mean() - self.mean, math.log(self.mean) - 3, math.log(self.mean) + 3
        )
        lengths = np.rint(self._quantiles(location, count)).astype(np.int64)
        return np.random.default_rng(seed).permutation(lengths)

    def _quantiles(self, location: float, count: int) -> np.ndarray:
        places = (np.arange(count) + 0.5) / count
        return np.clip(np.exp(location + self.sigma * stats.norm.ppf(places)), self.shortest, self.longest)


WORKLOADS = {
    # Sentences of Chinese news in characters: half of them below 36, one in twenty above 145, some at the window's end.
    "heavy-tailed": LengthDistribution(mean=51, sigma=0.85, shortest=5, longest=512),
    "tweets": LengthDistribution(mean=26, sigma=0.4, shortest=5, longest=80),
    "uniform": LengthDistribution(mean=64, sigma=0, shortest=64, longest=64),
}


def in_batches(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Cuts lengths, in order, into batches of `size` sentences."""
    return [lengths[first : first + size] for first in range(0, len(lengths), size)]


def padding_factor(batches: Sequence[np.ndarray]) -> float:
    """Returns positions per token if every batch is padded to its longest sentence.

    Example:
        >>> padding_factor([np.array([1, 3])])
        1.5
    """
    return sum(len(batch) * int(batch.max()) for batch in batches) / sum(int(batch.sum()) for batch in batches)


def forward_flops(config: EncoderConfig, lengths: np.ndarray, *, tag_count: int) -> float:
    """Returns the floating point operations that the sentences themselves need, padding not counted.

    Two for each multiplication of a matrix product, nothing for what is not one: `2 N L (4 H^2 + 2 H I)` of the dense
    layers, `4 L H sum of s^2` of attention over rows of s tokens, `4 N L H` of fusion (a logit of each layer, and the
    weighted sum) and `2 N H K` of the classifier.
    """
    hidden, layers = config.hidden_size, config.num_layers
    tokens = float(lengths.sum())
    dense = 2 * tokens * layers * (4 * hidden**2 + 2 * hidden * config.intermediate_size)
    attention = 4 * layers * hidden * float((lengths.astype(np.float64) ** 2).sum())
    return dense + attention + 4 * tokens * layers * hidden + 2 * tokens * hidden * tag_count
