"""A local run: the pipeline with the local runner and SQLite metadata, and what it leaves in the output folder."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

from components.evaluator import results
from components.example_gen.errors import annotation_error_text
from components.infra_validator.results import read_verdict
from components.pusher.results import read_outcome
from components.transform.alignment_report import (
    SplitAlignment,
    alignment_report,
    describe_alignment,
    read_examples,
)
from pipeline.configuration import Configuration
from pipeline.local_runner import ComponentError, ComponentRun, ProgressRunner, output_uris
from pipeline.pipeline import create_pipeline
from pipeline.report import RunReport, print_report, write_metrics


def run(configuration: Configuration, console: Console) -> RunReport:
    """Runs the pipeline, prints its progress and leaves `metrics.json` and the pushed model in the output folder.

    Raises:
        ComponentError: a step failed, or another run works in the same folder.
    """
    output = Path(configuration.output)
    with _exclusive(output):
        # Numbers of an earlier run must not pass for those of this one if it fails on the way.
        metrics_path = output / "metrics.json"
        metrics_path.unlink(missing_ok=True)
        pipeline = local_pipeline(configuration)
        runner = ProgressRunner(
            on_start=lambda component: _print_start(console, component),
            on_end=lambda component_run: _print_component(console, component_run),
            # It recognises the model it pushed last, and pushes again what was removed or replaced in the meantime.
            uncached=("VersionPusher",),
        )
        logging.getLogger().setLevel(logging.INFO)
        try:
            runner.run(pipeline)
        except ComponentError as failure:
            raise ComponentError(failure.component, _explain(failure)) from failure
        report = _report(configuration, pipeline, runner.component_runs, console)
        write_metrics(report, metrics_path)
        print_report(report, console)
        return report


def local_pipeline(configuration: Configuration) -> Pipeline:
    """Creates the pipeline for this machine: artifacts and metadata in the output folder, resumable training."""
    output = Path(configuration.output)
    trainer = configuration.trainer
    if trainer.checkpoint_directory is None:
        trainer = dataclasses.replace(trainer, checkpoint_directory=str(output / "checkpoints"))
    return create_pipeline(
        dataclasses.replace(configuration, trainer=trainer),
        pipeline_root=str(output / "artifacts"),
        metadata_connection=sqlite_metadata_connection_config(str(output / "metadata.sqlite")),
        # Workers in other processes would each import TensorFlow again: twice the time of a whole run.
        beam_pipeline_args=["--direct_running_mode=in_memory", "--direct_num_workers=1"],
    )


def _report(configuration: Configuration, pipeline: Pipeline, runs: list[ComponentRun], console: Console) -> RunReport:
    outputs = {component_run.component: output_uris(pipeline, component_run) for component_run in runs}
    evaluation, blessing = outputs["Evaluator"]["evaluation"], outputs["Evaluator"]["blessing"]
    alignment = _alignment(Path(outputs["Transform"]["transformed_examples"]))
    for line in describe_alignment({name: each for name, each in alignment.items() if each.unaligned}).splitlines():
        console.print(line, markup=False)
    split = configuration.evaluator.split
    examples = Path(outputs["AnnotatedTextExampleGen"]["examples"])
    test = results.read_report(evaluation, results.count_examples(str(examples / f"Split-{split}"), split))
    model_blessing = results.read_blessing(blessing, evaluation)
    validation = read_verdict(outputs["ServingInfraValidator"]["blessing"])
    push = read_outcome(outputs["VersionPusher"]["pushed_model"])
    return RunReport(
        test=test,
        calibration=results.read_calibration(evaluation),
        blessed=model_blessing.blessed and validation.blessed,
        refusals=(*map(str, model_blessing.failures), *validation.refusals) or push.refusals,
        unaligned={name: each.unaligned for name, each in alignment.items()},
        version_path=Path(push.destination) if push.destination else None,
        seconds={component_run.component: component_run.seconds for component_run in runs},
    )


def _alignment(transformed_examples: Path) -> dict[str, SplitAlignment]:
    """What word pieces cannot express, by split: scores count these entities as missed whatever the model does."""
    splits = {folder.name.removeprefix("Split-"): folder for folder in sorted(transformed_examples.glob("Split-*"))}
    return alignment_report({name: read_examples(str(folder / "*")) for name, folder in splits.items()})


def _print_start(console: Console, component: str) -> None:
    # On a terminal the line is completed when the component ends; in a file it would stand there twice.
    if console.is_terminal:
        console.print(f"{component:<24}", end="")


def _print_component(console: Console, component_run: ComponentRun) -> None:
    note = "  [dim]unchanged, from the last run[/]" if component_run.state == "cached" else ""
    start = "\r" if console.is_terminal else ""
    console.print(f"{start}{component_run.component:<24} {component_run.seconds:8.1f} s{note}")


def _explain(failure: ComponentError) -> str:
    """The part of a failure that helps: the reader's own sentence where there is one, else the first cause."""
    cause: BaseException = failure.__cause__ or failure
    text = annotation_error_text(cause)
    if text is not None:
        return text
    return f"{type(cause).__name__}: {cause}" if failure.__cause__ else str(failure)


@contextlib.contextmanager
def _exclusive(output: Path) -> Iterator[None]:
    """Holds the output folder for this run: two runs in one metadata store would mix their executions."""
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ComponentError(
                "fusion-ner run", f"another run works in {output}; wait for it or choose another --output"
            ) from None
        yield
