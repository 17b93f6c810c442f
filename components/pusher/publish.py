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

from components.pusher.model_card import CARD_FILE
from components.pusher.versions import (
    list_versions,
    next_version,
    parse_version,
    read_highest_version,
    version_folders,
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
    card: Callable[[int, str], bytes] | None = None,
) -> PushedVersion:
    """Publishes a SavedModel as the newest version of a serving directory.

    Several processes may publish into one directory at the same time: each gets its own version, and a version that is
    published later has the higher number.

    Args:
        model: the folder of the SavedModel.
        serving_directory: the folder that the server watches; it is made if it is missing.
        keep_versions: how many of the newest versions stay; None keeps all.
        clock: the time in unix seconds.
        card: returns the content of the model card for the version and the digest of the model's files (see
            `model_digest`); what it raises ends the push. Without it the version gets the card that lies in `model`.

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
                pushed = _rename(incoming, directory, clock, card, _joint_digest(digests))
    except OSError as error:
        raise PushError(
            f"cannot publish {source} in {directory}: {error.strerror or error} ({error.filename or directory}); "
            "nothing was published"
        ) from error
    if keep_versions is not None:
        try:
            retire(directory, keep_versions)
        except OSError as error:
            # The push itself is done and stays done.
            _logger.warning("cannot remove old versions from %s: %s", directory, error)
    return pushed


def published_already(model: str | os.PathLike[str], serving_directory: str | os.PathLike[str]) -> PushedVersion | None:
    """Returns the newest version if its files, but for the model card, are those of `model`, else None.

    A run in which nothing changed would otherwise make the server load the same model again; a model that was live
    before, with another one since, is published anew.
    """
    versions = version_folders(serving_directory)
    if not versions:
        return None
    newest, folder = list(versions.items())[-1]
    return PushedVersion(newest, folder) if model_digest(folder) == model_digest(model) else None


def model_digest(folder: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of names and contents of a model's files without its card: it stays what the model is."""
    return _joint_digest(_digests(pathlib.Path(folder)))


def retire(serving_directory: str | os.PathLike[str], keep_versions: int) -> tuple[int, ...]:
    """Removes all but the newest versions; each vanishes whole, by a rename to a hidden name.

    A server that serves a removed version has it in memory.

    Args:
        serving_directory: the folder that the server watches.
        keep_versions: how many stay, at least 1.

    Returns:
        The versions that are gone, ascending.

    Raises:
        OSError: a version could not be renamed.
    """
    if keep_versions < 1:
        raise ValueError(f"keep_versions: expected at least 1; received {keep_versions}")
    directory = pathlib.Path(serving_directory)
    with _lock(directory / _LOCK):
        retired = list_versions(directory)[:-keep_versions]
        for folder in list(directory.iterdir()):
            if parse_version(folder.name) in retired:
                folder.rename(directory / f"{_OUTGOING}{folder.name}-{secrets.token_hex(8)}")
    for folder in directory.glob(f"{_OUTGOING}*"):
        shutil.rmtree(folder, ignore_errors=True)
    return retired


def _rename(
    incoming: pathlib.Path,
    directory: pathlib.Path,
    clock: Callable[[], float],
    card: Callable[[int, str], bytes] | None,
    digest: str,
) -> PushedVersion:
    while True:
        version = next_version([*list_versions(directory), read_highest_version(directory)], clock())
        write_highest_version(directory, version)
        path = directory / str(version)
        if card is not None:
            _write_card(incoming / CARD_FILE, card(version, digest))
        try:
            incoming.rename(path)
        except OSError as error:
            # Somebody who does not take the lock made this name in the meantime; it is taken, so try the next.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            continue
        _sync(directory)
        return PushedVersion(version, path)


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


def _write_card(path: pathlib.Path, content: bytes) -> None:
    """Writes the card durably, in place of one that was copied, and reads it again."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as writer:
        writer.write(content)
        writer.flush()
        os.fsync(writer.fileno())
    for folder in (path.parent, path.parent.parent):
        _sync(folder)
    if path.read_bytes() != content:
        raise PushError("the model card cannot be read back as it was written; nothing was published")


def _joint_digest(digests: dict[str, str]) -> str:
    """Returns one SHA-256 for the digests of a model's files by name."""
    lines = sorted(f"{digest}  {name}\n" for name, digest in digests.items() if name != CARD_FILE)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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
