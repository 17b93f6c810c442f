"""Version numbers of a serving directory, as TF Serving reads them, and the next free one."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

# TF Serving reads the name of a child as an int64 and skips what is none.
LARGEST_VERSION = 2**63 - 1

HIGHEST_VERSION_FILE = ".highest-version"


class VersionError(RuntimeError):
    """Raised when no version number can be given; the message says why and what to do."""


def parse_version(name: str) -> int | None:
    """Returns the version that TF Serving sees in the name of a directory, or None.

    Example:
        >>> [parse_version(name) for name in ("1763950000", "007", "v2", ".incoming-5", "9" * 20)]
        [1763950000, 7, None, None, None]
    """
    if not (name.isascii() and name.isdigit()):
        return None
    version = int(name)
    return version if version <= LARGEST_VERSION else None


def list_versions(serving_directory: str | os.PathLike[str]) -> tuple[int, ...]:
    """Returns the versions that lie in a serving directory, ascending; none if the directory does not exist.

    Raises:
        OSError: the directory cannot be read.
    """
    return tuple(version_folders(serving_directory))


def version_folders(serving_directory: str | os.PathLike[str]) -> dict[int, pathlib.Path]:
    """Returns the versions that lie in a serving directory, ascending, each with its folder.

    Raises:
        OSError: the directory cannot be read.
    """
    try:
        with os.scandir(serving_directory) as entries:
            folders = {parse_version(entry.name): pathlib.Path(entry.path) for entry in entries if entry.is_dir()}
    except FileNotFoundError:
        return {}
    return {version: folders[version] for version in sorted(version for version in folders if version is not None)}


def newest_model(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder with saved_model.pb: `folder` itself, or the newest version in it; None if there is none."""
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = {parse_version(file.parent.name): file.parent for file in folder.glob("*/saved_model.pb")}
    newest = max((version for version in versions if version is not None), default=None)
    return None if newest is None else versions[newest]


def next_version(used: Iterable[int], unix_seconds: float) -> int:
    """Returns the time in whole seconds, or one more than the highest version in `used` if that is not below it.

    Raises:
        VersionError: the highest version leaves no number above it.

    Example:
        >>> next_version([100, 250], 200.9)
        251
        >>> next_version([100], 200.9)
        200
    """
    version = max(int(unix_seconds), 1, *(number + 1 for number in used))
    if version > LARGEST_VERSION:
        raise VersionError(f"no version number is left above {LARGEST_VERSION}; push to a new serving directory")
    return version


def read_highest_version(serving_directory: pathlib.Path) -> int:
    """Returns the highest version ever published in a serving directory, or 0, whether or not it still lies there.

    Raises:
        VersionError: the file that remembers it is damaged.
    """
    file = serving_directory / HIGHEST_VERSION_FILE
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return 0
    version = parse_version(text.strip())
    if version is None:
        raise VersionError(
            f"{file} should hold the highest version that was ever published here, one number; it holds {text[:40]!r}. "
            "Write a number that is at least as high as every version that a server of this directory has seen."
        )
    return version


def write_highest_version(serving_directory: pathlib.Path, version: int) -> None:
    """Remembers a version durably, before it is published: a number that failed once is burnt for a running server."""
    file, temporary = serving_directory / HIGHEST_VERSION_FILE, serving_directory / f"{HIGHEST_VERSION_FILE}.new"
    with temporary.open("w", encoding="ascii") as stream:
        stream.write(f"{version}\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
