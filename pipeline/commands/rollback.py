"""`fusion-ner rollback`: makes an earlier version of a model the newest again, while a server watches."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.command_line import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner rollback`."""
    parser.add_argument(
        "serving_directory",
        type=Path,
        metavar="SERVING_DIR",
        help="folder with the versions of a model, such as OUTPUT/serving/ner",
    )
    parser.add_argument(
        "--to",
        type=int,
        metavar="VERSION",
        help="the version to restore; by default the newest that is another model than the newest of all and was not "
        "taken back before",
    )


def main(arguments: argparse.Namespace) -> int:
    """Publishes the earlier version once more and says what a watching server will do."""
    from components.pusher.model_card import ModelCardError
    from components.pusher.publish import PushError
    from components.pusher.rollback import RollbackError, rollback
    from components.pusher.versions import VersionError
    from pipeline.commands.models import model_folders

    directory = arguments.serving_directory.resolve()
    folders = model_folders(arguments.serving_directory)
    if folders != [directory]:
        names = ", ".join(folder.name for folder in folders)
        raise UsageError(
            f"{arguments.serving_directory}: expected the folder of one model; it holds folders of models: {names}"
        )
    try:
        restored = rollback(directory, arguments.to)
    except (RollbackError, PushError, ModelCardError, VersionError) as error:
        raise UsageError(str(error)) from error
    record = restored.rollback
    print(
        f"{restored.pushed.path}: version {record.restored_version} once more, in place of {record.rolled_back_from}; "
        "a server that watches the folder loads it and then unloads the other"
    )
    return 0
