"""Publishing a model: a hidden copy, checked and on disk, becomes a version by one rename.

    <serving directory>/
        1763950000/              a version: complete from the moment at which its name exists
        .incoming-3f9c.../       a push under way: `lock` (held by its process) and `model/`
        .outgoing-17639.../      a version on its way out, no longer visible to a server
        .lock                    held for the moments in which names appear or vanish
        .highest-version         the highest version ever published

A server reads nothing but names that are whole numbers, so it never sees a copy under way. A process that is killed
leaves hidden names only; the next push removes those whose lock nobody holds any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import logging
import os
import pathlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator

from components.pusher.versions import (
    list_versions,
    next_version,
    parse_version,
    read_highest_version,
    write_highest_version,
)

_logger = logging.getLogger(__name__)

_LOCK = ".lock"
_INCOMING = ".incoming-"
_OUTGOING = ".outgoing-"
_CHUNK = 1 << 20

# A SavedModel of TensorFlow 2 always has these. A server that finds the first without the second reports the version as
# available, unloads the good one and then fails every request.
_NEEDED_FILES = ("saved_model.pb", "variables/variables.index")


class PushError(RuntimeError):
    """Raised when a model cannot be published; nothing was published, and the message says why."""


@dataclasses.dataclass(frozen=True)
class PushedVersion:
    """A published version: its number and its folder, `<serving directory>/<version>`."""

    version: int
    path: pathlib.Path


def publish(
    model: str | os.PathLike[str],
    serving_directory: str | os.PathLike[str],
    *,
    keep_versions: int | None = None,
    clock: Callable[[], float] = time.time,
) -> PushedVersion:
    """Publishes a SavedModel as the newest version of a serving directory.

    Several processes may publish into one directory at the same time: each gets its own version, and a version that is
    published later has the higher number.

    Args:
        model: the folder of the SavedModel.
        serving_directory: the folder that the server watches; it is made if it is missing.
        keep_versions: how many of the newest versions stay; None keeps all.
        clock: the time in unix seconds.

    Raises:
        PushError: the folder holds no SavedModel, or it could not be copied, verified or published.
        VersionError: no version number can be given.
    """
    source, directory = pathlib.Path(model), pathlib.Path(serving_directory)
    for name in _NEEDED_FILES:
        if not (source / name).is_file():
            raise PushError(f"{source} is no complete SavedModel: {name} is missing; nothing was published")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _incoming(directory) as incoming:
            digests = _copy(source, incoming)
            _verify(incoming, digests)
            with _lock(directory / _LOCK):
                pushed = _rename(incoming, directory, clock)
    except OSError as error:
        raise PushError(
            f"cannot publish {source} in {directory}: {error.strerror or error} ({error.filename or directory}); "
            "nothing was published"
        ) from error
    if keep_versions is not None:
        _retire(directory, keep_versions)
    return pushed


def published_already(model: str | os.PathLike[str], serving_directory: str | os.PathLike[str]) -> PushedVersion | None:
    """Returns the newest version if its files are those of `model`, else None.

    A run in which nothing changed would otherwise make the server load the same model again; a model that was live
    before, with another one since, is published anew.
    """
    directory = pathlib.Path(serving_directory)
    if not directory.is_dir():
        return None
    versions = list_versions(directory)
    for folder in directory.iterdir():
        if versions and parse_version(folder.name) == versions[-1]:
            same = _digests(folder) == _digests(pathlib.Path(model))
            return PushedVersion(versions[-1], folder) if same else None
    return None


def _rename(incoming: pathlib.Path, directory: pathlib.Path, clock: Callable[[], float]) -> PushedVersion:
    while True:
        version = next_version([*list_versions(directory), read_highest_version(directory)], clock())
        write_highest_version(directory, version)
        path = directory / str(version)
        try:
            incoming.rename(path)
        except OSError as error:
            # Somebody who does not take the lock made this name in the meantime; it is taken, so try the next.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            continue
        _sync(directory)
        return PushedVersion(version, path)


def _retire(directory: pathlib.Path, keep_versions: int) -> None:
    """Removes the oldest versions; each vanishes whole, by a rename to a hidden name."""
    try:
        with _lock(directory / _LOCK):
            retired = list_versions(directory)[:-keep_versions]
            for folder in list(directory.iterdir()):
                if parse_version(folder.name) in retired:
                    folder.rename(directory / f"{_OUTGOING}{folder.name}-{secrets.token_hex(8)}")
    except OSError as error:
        # The push itself is done and stays done.
        _logger.warning("cannot remove old versions from %s: %s", directory, error)
    for folder in directory.glob(f"{_OUTGOING}*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _incoming(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a folder for the copy; it belongs to this process for as long as the process lives."""
    folder = directory / f"{_INCOMING}{secrets.token_hex(8)}"
    with contextlib.ExitStack() as stack:
        with _lock(directory / _LOCK):
            _remove_leftovers(directory)
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(_lock(folder / "lock"))
        (folder / "model").mkdir()
        yield folder / "model"


def _remove_leftovers(directory: pathlib.Path) -> None:
    """Removes the hidden folders of pushes whose process is gone: their lock is free."""
    for folder in directory.glob(f"{_INCOMING}*"):
        # An OSError says that the lock is held, or that the folder belongs to another user or is gone by now.
        with contextlib.suppress(OSError), _lock(folder / "lock", wait=False):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(path: pathlib.Path, *, wait: bool = True) -> Iterator[None]:
    """Holds an exclusive lock on a file; the system frees it when the process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _copy(source: pathlib.Path, target: pathlib.Path) -> dict[str, str]:
    """Copies the files of a folder durably and returns the SHA-256 of each as it was read."""
    digests = {}
    folders = [target]
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            (target / name).mkdir()
            folders.append(target / name)
        elif not path.is_file():
            raise PushError(f"{path} is neither a file nor a folder; nothing was published")
        else:
            digests[name.as_posix()] = _copy_file(path, target / name)
    for folder in reversed(folders):
        _sync(folder)
    return digests


def _copy_file(source: pathlib.Path, target: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()


def _digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of each file below a folder, by its name."""
    digests = {}
    for path in folder.rglob("*"):
        if not path.is_dir():
            digest = hashlib.sha256()
            with path.open("rb") as reader:
                while chunk := reader.read(_CHUNK):
                    digest.update(chunk)
            digests[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return digests


def _verify(folder: pathlib.Path, digests: dict[str, str]) -> None:
    found = _digests(folder)
    if found != digests:
        different = sorted(name for name in {*found, *digests} if found.get(name) != digests.get(name))
        raise PushError(f"the copy differs from the model in {', '.join(different)}; nothing was published")


def _sync(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
