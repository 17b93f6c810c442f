"""`fusion-ner models`: lists the versions in a serving folder, newest first, from the cards that travel with them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from pipeline.command_line import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner models`."""
    parser.add_argument(
        "serving_directory",
        type=Path,
        metavar="SERVING_DIR",
        help="folder with the versions of a model, such as OUTPUT/serving/ner, or one that holds several of these",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--target", metavar="HOST:PORT", help="also ask this model server in which state it has each version"
    )
    parser.add_argument(
        "--keep", type=int, metavar="N", help="first remove all versions of each model but the newest N"
    )


@dataclasses.dataclass(frozen=True)
class ListedVersion:
    """One version, as the command shows it; None is unknown.

    Args:
        model: name of the model, that of its folder.
        version: its number.
        newest: whether a server with the default policy serves it.
        created: when it was published, ISO 8601 in UTC.
        f1: strict micro F1 on the evaluated split.
        types: the entity types it finds.
        data_fingerprint: SHA-256 of the corpus.
        code_version: of the program that trained it.
        bytes: size of its files.
        restored_version: the earlier version that it repeats, if a rollback made it.
        withdrawn: whether the rollback that made the newest version took this one back.
        state: what the server says: START, LOADING, AVAILABLE, UNLOADING, END.
        problem: why its card cannot be read.
    """

    model: str
    version: int
    newest: bool
    created: str | None = None
    f1: float | None = None
    types: tuple[str, ...] = ()
    data_fingerprint: str | None = None
    code_version: str | None = None
    bytes: int = 0
    restored_version: int | None = None
    withdrawn: bool = False
    state: str | None = None
    problem: str | None = None


def main(arguments: argparse.Namespace) -> int:
    """Prints the versions; status 1 if the server that was named does not answer."""
    from components.pusher.publish import retire
    from serving.errors import ServingError

    folders = model_folders(arguments.serving_directory)
    if arguments.keep is not None:
        if arguments.keep < 1:
            raise UsageError(f"--keep: expected a number from 1 on; received {arguments.keep}")
        for folder in folders:
            try:
                removed = retire(folder, arguments.keep)
            except OSError as error:
                raise UsageError(f"{folder}: old versions cannot be removed: {error.strerror}") from error
            if removed:
                print(f"{folder}: removed {', '.join(map(str, removed))}", file=sys.stderr)
    try:
        versions = [
            listed for folder in folders for listed in list_model(folder, server_states(arguments.target, folder.name))
        ]
    except ServingError as error:
        print(f"fusion-ner models: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([dataclasses.asdict(version) for version in versions], indent=2, ensure_ascii=False))
    else:
        _print_table(versions, with_state=arguments.target is not None)
    return 0


def model_folders(serving_directory: Path) -> list[Path]:
    """Returns the folders of models: the given one, or those in it.

    Raises:
        UsageError: there is no version anywhere.
    """
    from components.pusher.versions import list_versions

    directory = serving_directory.resolve()
    if not directory.is_dir():
        raise UsageError(f"{serving_directory}: expected a folder; there is none")
    if list_versions(directory):
        return [directory]
    folders = sorted(child for child in directory.iterdir() if child.is_dir() and list_versions(child))
    if not folders:
        raise UsageError(
            f"{serving_directory}: expected version folders, named by a number, or folders of models that hold some; "
            "found neither"
        )
    return folders


def list_model(folder: Path, states: dict[int, str]) -> list[ListedVersion]:
    """Returns the versions of one model, newest first."""
    from components.pusher.model_card import ModelCardError
    from components.pusher.rollback import withdrawn_versions
    from components.pusher.versions import version_folders

    folders = version_folders(folder)
    try:
        withdrawn = {each.version for each in withdrawn_versions(folder)}
    except ModelCardError:
        # The row of the newest version says so.
        withdrawn = set()
    return [
        dataclasses.replace(
            _listed(folder.name, version, folders[version]),
            newest=version == max(folders),
            withdrawn=version in withdrawn,
            state=states.get(version),
        )
        for version in sorted(folders, reverse=True)
    ]


def server_states(target: str | None, model_name: str) -> dict[int, str]:
    """Returns the state of each version on a server; nothing without a server, or where it lacks the model.

    Raises:
        ServingError: the server does not answer.
    """
    if target is None:
        return {}
    from serving.client import Client, ConnectionSettings
    from serving.errors import ModelNotFound

    with Client(target, model_name=model_name, settings=ConnectionSettings(timeout=3.0)) as client:
        try:
            return {status.version: status.state for status in client.status()}
        except ModelNotFound:
            return {}


def _listed(model: str, version: int, folder: Path) -> ListedVersion:
    from components.pusher.model_card import ModelCardError, read_card

    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    listed = ListedVersion(model, version, newest=False, bytes=size)
    try:
        card = read_card(folder)
    except ModelCardError as error:
        return dataclasses.replace(listed, problem=str(error))
    if card is None:
        return listed
    return dataclasses.replace(
        listed,
        created=card.created,
        f1=card.f1,
        types=card.types,
        data_fingerprint=card.data_fingerprint,
        code_version=card.code_version,
        restored_version=card.rollback.restored_version if card.rollback else None,
    )


def _print_table(versions: list[ListedVersion], *, with_state: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    headings = ["model", "version", "created", "F1", "types", "data", "code", "MB", *(["server"] if with_state else [])]
    for heading in (*headings, ""):
        table.add_column(heading, justify="right" if heading in ("version", "F1", "MB") else "left", no_wrap=True)
    for version in versions:
        table.add_row(*_cells(version, with_state=with_state), style="bold" if version.newest else "")
    # In a file or a pipe no row may be cut to the width of a terminal that is not there.
    Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(table)
    for version in versions:
        if version.problem:
            print(f"{version.model} {version.version}: {version.problem}", file=sys.stderr)


def _cells(version: ListedVersion, *, with_state: bool) -> list[str]:
    def shown(value: Any, form: str = "{}") -> str:
        return "-" if value is None else form.format(value)

    remarks = [
        "newest" * version.newest,
        f"restores {version.restored_version}" * (version.restored_version is not None),
        "taken back" * version.withdrawn,
        "its card cannot be read" * (version.problem is not None),
    ]
    return [
        version.model,
        str(version.version),
        shown(version.created),
        shown(version.f1, "{:.4f}"),
        ",".join(version.types) or "-",
        shown(version.data_fingerprint and version.data_fingerprint[:12]),
        shown(version.code_version),
        f"{version.bytes / 1e6:.1f}",
        *([shown(version.state)] if with_state else []),
        ", ".join(filter(None, remarks)),
    ]
