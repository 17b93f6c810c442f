"""Means over seeds with their 95 % intervals: a table in Markdown and a plot.

The interval is Student's, mean ± t(0.975, n - 1) s / sqrt(n): it says how well n seeds fix the mean over all seeds, for
this corpus and its split. Two configurations are compared by the differences of equal seeds.
"""

from __future__ import annotations

import collections
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

CONFIDENCE = 0.95
FUSIONS = ("dynamic", "static", "last")

# (corpus, configuration) -> seed -> score
Scores = Mapping[tuple[str, str], Mapping[int, float]]


class Interval(NamedTuple):
    """A mean and half the width of its 95 % interval, which is infinite for one value."""

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.half_width == float("inf") else f"{self.mean:.4f} ± {self.half_width:.4f}"


def interval(values: Sequence[float]) -> Interval:
    """Returns the mean of `values` and its interval.

    Raises:
        ValueError: there is no value.

    Example:
        >>> interval([1.0, 2.0, 3.0])
        Interval(mean=2.0, half_width=2.484..)
    """
    if not values:
        raise ValueError("expected at least one value; received none")
    if len(values) == 1:
        return Interval(values[0], float("inf"))
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Interval(statistics.mean(values), quantile * statistics.stdev(values) / len(values) ** 0.5)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Interval | None:
    """Returns the interval of first - second over the seeds that both have; None if there is none.

    Example:
        >>> paired_difference({1: 0.5, 2: 0.6}, {1: 0.4, 2: 0.5, 3: 0.9}).mean
        0.1
    """
    common = sorted(first.keys() & second.keys())
    return interval([first[seed] - second[seed] for seed in common]) if common else None


def scores_by_configuration(results: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[int, float]]:
    """Returns the strict test F1 of every (corpus, configuration) by seed: fusions first, then as they come.

    Raises:
        ValueError: two results have the same corpus, label and seed, so that a label means two things.
    """
    scores: dict[tuple[str, str], dict[int, float]] = collections.defaultdict(dict)
    order = {name: place for place, name in enumerate(FUSIONS)}
    for result in sorted(results, key=lambda result: order.get(result["label"], len(order))):
        of_seed = scores[result["corpus"], result["label"]]
        if result["seed"] in of_seed:
            raise ValueError(
                f"{result['corpus']}, {result['label']}: two results with seed {result['seed']}; "
                "give configurations that differ different labels"
            )
        of_seed[result["seed"]] = result["test"]["strict"]["f1"]
    return dict(scores)


def print_summary(results: Sequence[Mapping[str, Any]], *, plot: Path | None) -> None:
    """Prints means, intervals and paired differences to the first configuration of each corpus; draws them."""
    scores = scores_by_configuration(results)
    by_seed: dict[tuple[str, str], list[Mapping[str, Any]]] = collections.defaultdict(list)
    for result in results:
        by_seed[result["corpus"], result["label"]].append(result)
    print("| corpus | configuration | seeds | test precision | recall | strict test F1 | dev F1 | processor seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for (corpus, label), of_seed in scores.items():
        runs = by_seed[corpus, label]
        precision, recall = (statistics.mean(run["test"]["strict"][each] for run in runs) for each in _RATIOS)
        dev = statistics.mean(max(run["dev_f1"]) for run in runs)
        seconds = statistics.mean(run["processor_seconds"] for run in runs)
        print(
            f"| {corpus} | {label} | {len(of_seed)} | {precision:.4f} | {recall:.4f} "
            f"| {interval(list(of_seed.values()))} | {dev:.4f} | {seconds:.0f} |"
        )
    print("\n| corpus | difference of test F1, same seeds | seeds | mean and interval |\n|---|---|---|---|")
    for corpus, first, second in _pairs(scores):
        difference = paired_difference(scores[corpus, first], scores[corpus, second])
        if difference is not None:
            seeds = len(scores[corpus, first].keys() & scores[corpus, second].keys())
            width = "" if difference.half_width == float("inf") else f" ± {difference.half_width:.4f}"
            print(f"| {corpus} | {first} - {second} | {seeds} | {difference.mean:+.4f}{width} |")
    if plot is not None:
        draw(scores, plot)


def draw(scores: Scores, path: Path) -> None:
    """Draws, for each corpus, the score of every seed beside the mean and interval of its configuration."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    corpora = list(dict.fromkeys(corpus for corpus, _ in scores))
    most = max(sum(1 for corpus, _ in scores if corpus == each) for each in corpora)
    figure, axes = pyplot.subplots(
        1, len(corpora), figsize=(max(3.2, 0.9 * most + 1) * len(corpora), 3.6), squeeze=False
    )
    for axis, corpus in zip(axes[0], corpora, strict=True):
        labels = [label for each, label in scores if each == corpus]
        for place, label in enumerate(labels):
            values = list(scores[corpus, label].values())
            mean, half_width = interval(values)
            axis.plot([place - 0.15] * len(values), values, "o", color="0.55", markersize=4)
            error = None if half_width == float("inf") else [[half_width], [half_width]]
            axis.errorbar([place + 0.1], [mean], yerr=error, fmt="s", color="C0", capsize=4, markersize=5)
        axis.set_xticks(range(len(labels)), labels, rotation=20 if max(map(len, labels)) > 8 else 0)
        axis.set_xlim(-0.6, len(labels) - 0.4)
        axis.set_title(corpus)
        axis.grid(axis="y", color="0.9")
        axis.set_axisbelow(True)
    axes[0][0].set_ylabel("strict test F1")
    figure.text(0.5, 0.02, "points: seeds; squares: mean and 95 % interval", ha="center", fontsize=9)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=140)
    pyplot.close(figure)


_RATIOS = ("precision", "recall")


def _pairs(scores: Scores) -> list[tuple[str, str, str]]:
    """Returns the first configuration of every corpus against each other one, and static against last."""
    pairs = []
    for corpus in dict.fromkeys(corpus for corpus, _ in scores):
        labels = [label for each, label in scores if each == corpus]
        pairs += [(corpus, labels[0], label) for label in labels[1:]]
        if {"static", "last"} <= set(labels[1:]):
            pairs.append((corpus, "static", "last"))
    return pairs
