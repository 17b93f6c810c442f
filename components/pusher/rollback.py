"""Rollback: an earlier version becomes the newest again, as a copy under a number of its own.

docs/decisions/2026-11-24-rollback-by-republishing.md says why the newer versions are not taken away instead.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable

from components.pusher.model_card import ModelCard, Rollback, WithdrawnVersion, iso_time, read_card
from components.pusher.publish import PushedVersion, PushError, model_digest, publish
from components.pusher.versions import version_folders


class RollbackError(RuntimeError):
    """Raised when there is nothing to go back to; nothing was changed, and the message says why."""


@dataclasses.dataclass(frozen=True)
class RestoredVersion:
    """What a rollback did: the new version, and the earlier one whose files it has."""

    pushed: PushedVersion
    rollback: Rollback


def rollback(
    serving_directory: str | os.PathLike[str],
    version: int | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> RestoredVersion:
    """Publishes an earlier version once more, under a higher number than all others.

    Args:
        serving_directory: the folder that the server watches.
        version: the version to restore; None takes the newest one that is another model than the one that is newest
            now and was not taken back by an earlier rollback.
        clock: the time in unix seconds.

    Raises:
        RollbackError: there is no such version, it is the newest already, or there is none to go back to.
        PushError: it is damaged, or could not be published.
        ModelCardError: the card of the newest version, or of the one to restore, cannot be read.
        VersionError: no version number can be given.
    """
    folders = version_folders(serving_directory)
    if not folders:
        raise RollbackError(f"{serving_directory}: expected version folders, named by a number; found none")
    digests = {number: _digest(folder) for number, folder in folders.items()}
    newest = max(folders)
    withdrawn_before = withdrawn_versions(serving_directory)
    if version is None:
        avoided = {digests[newest], *(each.digest for each in withdrawn_before)}
        version = next((number for number in sorted(folders, reverse=True) if digests[number] not in avoided), None)
        if version is None:
            raise RollbackError(
                f"{serving_directory}: no version is left to go back to: {_listed(folders)} are the model that is the "
                "newest, or were taken back before; name one of these with --to to restore it all the same"
            )
    elif version not in folders:
        raise RollbackError(f"{serving_directory}: there is no version {version}; there are {_listed(folders)}")
    elif digests[version] == digests[newest]:
        what = "is the newest already" if version == newest else f"is the same model as {newest}, the newest"
        raise RollbackError(f"{serving_directory}: version {version} {what}")
    newer = tuple(WithdrawnVersion(number, digests[number]) for number in folders if number > version)
    withdrawn = {each.digest: each for each in (*withdrawn_before, *newer) if each.digest != digests[version]}
    record = Rollback(version, newest, tuple(withdrawn.values()))
    pushed = publish(
        folders[version],
        serving_directory,
        clock=clock,
        card=lambda number, digest: _restored_card(folders[version], number, digest, record, clock()).to_bytes(),
    )
    return RestoredVersion(pushed, record)


def withdrawn_versions(serving_directory: str | os.PathLike[str]) -> tuple[WithdrawnVersion, ...]:
    """Returns the versions that the newest one, made by a rollback, took back; none if it was pushed.

    Raises:
        ModelCardError: the card of the newest version cannot be read.
    """
    folders = version_folders(serving_directory)
    card = read_card(folders[max(folders)]) if folders else None
    return () if card is None or card.rollback is None else card.rollback.withdrawn


def withdrawn_as(model: str | os.PathLike[str], serving_directory: str | os.PathLike[str]) -> int | None:
    """Returns the version under which a rollback took these very files back, or None.

    Raises:
        ModelCardError: the card of the newest version cannot be read.
    """
    withdrawn = withdrawn_versions(serving_directory)
    if not withdrawn:
        return None
    digest = model_digest(model)
    return next((each.version for each in withdrawn if each.digest == digest), None)


def _digest(folder: pathlib.Path) -> str:
    card = read_card(folder)
    return model_digest(folder) if card is None else card.digest


def _restored_card(folder: pathlib.Path, number: int, digest: str, record: Rollback, unix_seconds: float) -> ModelCard:
    card = read_card(folder) or ModelCard(name=folder.parent.resolve().name, version=0, created="", digest=digest)
    if card.digest != digest:
        raise PushError(
            f"{folder}: its files are not those that were published (digest {digest[:12]}, its card says "
            f"{card.digest[:12]}); nothing was published"
        )
    return dataclasses.replace(card, version=number, created=iso_time(unix_seconds), rollback=record)


def _listed(folders: dict[int, pathlib.Path]) -> str:
    return ", ".join(map(str, folders))
