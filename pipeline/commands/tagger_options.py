"""The options of commands that ask a tagger, in this process or behind a server, and what the options name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from components.pusher.versions import newest_model
from pipeline.command_line import UsageError

if TYPE_CHECKING:
    from serving.client import Client


def add_tagger_options(parser: argparse.ArgumentParser, *, timed: str) -> None:
    """Adds `--model` or `--target`, `--model-name` and `--timeout`; `timed` says what the timeout is for."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--model", type=Path, metavar="DIR", help="a SavedModel, or a folder of versions, of which the newest is taken"
    )
    where.add_argument("--target", metavar="HOST:PORT", help="a model server")
    parser.add_argument(
        "--model-name", default="ner", metavar="NAME", help="name of the model on the server (default: ner)"
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help=f"seconds for {timed} to a server (default: 30)"
    )


def model_folder(folder: Path) -> Path:
    """Returns the folder of a SavedModel: `folder` itself, or the newest of the versions in it."""
    newest = newest_model(folder)
    if newest is None:
        raise UsageError(
            f"--model: expected a folder with saved_model.pb, or one with such folders as versions; {folder} is neither"
        )
    return newest


def client_of(arguments: argparse.Namespace) -> Client:
    """Returns a client of the server that the options name."""
    from components.settings import SettingsError
    from serving.client import Client, ConnectionSettings

    try:
        settings = ConnectionSettings(timeout=arguments.timeout)
        return Client(arguments.target, model_name=arguments.model_name, settings=settings)
    except (SettingsError, ValueError) as error:
        raise UsageError(str(error)) from error
