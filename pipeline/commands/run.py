"""`fusion-ner run`: the pipeline on this machine, from annotated text to a pushed model."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from components import progress
from components.settings import SettingsError
from pipeline.command_line import UsageError
from pipeline.configuration import Configuration, read_configuration

# Option -> the setting that it overrides; argparse's type of the value.
OVERRIDES: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "--train": (("data", "train"), str, "training texts; without --dev and --test these are cut from it"),
    "--dev": (("data", "dev"), str, "texts that choose the best checkpoint"),
    "--test": (("data", "test"), str, "texts that are scored"),
    "--format": (("data", "format"), str, "auto, conll or jsonl"),
    "--encoder": (("trainer", "encoder"), str, "folder of a pretrained encoder"),
    "--output": (("output",), str, "folder for everything that the run leaves"),
    "--epochs": (("trainer", "epochs"), int, "passes over the training texts"),
    "--learning-rate": (("trainer", "learning_rate"), float, "peak learning rate"),
    "--batch-tokens": (("trainer", "batch_tokens"), int, "tokens of a training batch"),
    "--seed": (("trainer", "seed"), int, "of initial weights, order of the data and dropout"),
    "--fusion": (("trainer", "fusion"), str, "dynamic, static or last"),
}
PATH_OPTIONS = ("--train", "--dev", "--test", "--encoder", "--output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner run`."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML file: docs/configuration.md")
    for option, (place, value_type, help_text) in OVERRIDES.items():
        parser.add_argument(option, type=value_type, metavar=option[2].upper(), help=f"{help_text} ({'.'.join(place)})")


def configuration_from_arguments(arguments: argparse.Namespace) -> Configuration:
    """Returns the checked configuration; options win over the file.

    Raises:
        UsageError: what is wrong with a setting.
    """
    overrides = {}
    for option, (place, _, _) in OVERRIDES.items():
        value = getattr(arguments, option[2:].replace("-", "_"))
        if value is not None:
            overrides[place] = os.path.abspath(value) if option in PATH_OPTIONS and "://" not in value else value
    try:
        return read_configuration(arguments.config, overrides)
    except SettingsError as error:
        raise UsageError(str(error)) from error


def main(arguments: argparse.Namespace) -> int:
    """Runs the pipeline and returns 0 when it came to its end, blessed or not, and 1 when a component failed."""
    # What reading the configuration decides is told before there is a log.
    progress.show_on(logging.StreamHandler())
    configuration = configuration_from_arguments(arguments)
    from pipeline.console import console_with_log

    log_path = Path(configuration.output) / "run.log"
    start = time.monotonic()
    with console_with_log(log_path) as console:
        console.print(
            f"fusion-ner run: {configuration.name} into {configuration.output}; log: {log_path}", markup=False
        )
        with console.status("loading TensorFlow and TFX"):
            from pipeline import local_run
        console.print(f"[dim]loaded TensorFlow and TFX {time.monotonic() - start:8.1f} s[/]")
        try:
            local_run.run(configuration, console)
        except local_run.ComponentError as failure:
            console.print(f"[bold red]{failure.component} failed[/]")
            console.print(str(failure), markup=False)
            console.print(f"log: {log_path}", markup=False)
            return 1
    sys.stdout.flush()
    return 0
