"""What a run ends with: `metrics.json` and the tables in the terminal."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from components.evaluator.calibration import Calibration
from components.evaluator.entity_scores import Counts, StrictReport


@dataclasses.dataclass(frozen=True)
class RunReport:
    """The outcome of a run.

    Args:
        test: strict scores on the test split.
        calibration: whether the entities' scores are the share of them that is right; None if it was not measured.
        blessed: whether every gate passed.
        refusals: why nothing was pushed, one sentence each: gates that failed, or what the Pusher had against it.
        unaligned: by split, how many gold entities no run of word pieces covers exactly; scores count them as missed.
        version_path: where the pushed model lies; None if nothing was pushed.
        seconds: wall-clock seconds by component.
    """

    test: StrictReport
    calibration: Calibration | None
    blessed: bool
    refusals: tuple[str, ...]
    unaligned: Mapping[str, int]
    version_path: Path | None
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """Returns the content of `metrics.json`."""
        return {
            "test": {
                **self.test.to_json(),
                **({} if self.calibration is None else {"calibration": self.calibration.to_json()}),
            },
            "blessed": self.blessed,
            "refusals": list(self.refusals),
            "unaligned_entities": dict(self.unaligned),
            "model": str(self.version_path) if self.version_path else None,
            "seconds": {component: round(seconds, 2) for component, seconds in self.seconds.items()},
        }


def write_metrics(report: RunReport, path: Path) -> None:
    """Writes `metrics.json` by an atomic rename, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def print_report(report: RunReport, console: Console) -> None:
    """Prints the scores by entity type, the verdict and the place of the model."""
    table = Table(title="test split, strict entity scores", title_justify="left", title_style="bold")
    table.add_column("type")
    for heading in ("precision", "recall", "F1", "gold entities"):
        table.add_column(heading, justify="right")
    for entity_type, counts in sorted(report.test.per_type.items()):
        table.add_row(entity_type, *_cells(counts))
    table.add_section()
    table.add_row("all", *_cells(report.test.micro), style="bold")
    console.print(table)
    if report.calibration is not None:
        error = report.calibration.expected_calibration_error
        console.print(f"expected calibration error of the scores: {error:.4f}")
    if report.blessed:
        console.print("[bold green]blessed[/]: every gate passed")
    else:
        console.print("[bold red]not blessed[/]")
    if report.version_path:
        console.print(f"model: {report.version_path}", markup=False)
    else:
        console.print("nothing was pushed:")
    for refusal in report.refusals:
        console.print(f"  {refusal}", markup=False)


def _cells(counts: Counts) -> tuple[str, ...]:
    scores = counts.scores()
    return (*(f"{value:.4f}" for value in (scores.precision, scores.recall, scores.f1)), str(counts.gold))
