"""The model card: what a version is, where it comes from and how good it is, in a JSON file that travels with it.

`docs/servable.md` describes the file. It names no place of the machine on which the model was trained.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

# TF Serving reads nothing of this folder but the warm-up requests.
CARD_FILE = "assets.extra/model_card.json"

# Raised when a reader of an older card would misread a newer one; new members do not change it.
SCHEMA = 1


class ModelCardError(ValueError):
    """Raised when a model card cannot be read; the message names the file."""


@dataclasses.dataclass(frozen=True)
class WithdrawnVersion:
    """A version that a rollback took back, with the digest of its files."""

    version: int
    digest: str


@dataclasses.dataclass(frozen=True)
class Rollback:
    """What made a version the newest again.

    Args:
        restored_version: the earlier version whose files these are.
        rolled_back_from: the version that was the newest before.
        withdrawn: all versions that this one is meant to replace; the pusher does not publish their files again.
    """

    restored_version: int
    rolled_back_from: int
    withdrawn: tuple[WithdrawnVersion, ...]


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """A card; members without a value are unknown, and the sections are plain JSON.

    Args:
        name: the model's name.
        version: the version under which it was published.
        created: when that was, ISO 8601 in UTC.
        digest: SHA-256 of the version's files without the card, see `components.pusher.publish.model_digest`.
        types: the entity types it finds.
        model: fusion, shape of the encoder, window.
        tokenizer: size and digest of the vocabulary, case.
        data: fingerprint and sizes of the corpus.
        training: settings and progress.
        evaluation: strict scores on the evaluated split, gates, blessing.
        infra_validation: the server on which it was tried, with latencies.
        code: version and commit of the program that trained it.
        libraries: their versions at training.
        rollback: what restored it, for a version that a rollback made.
    """

    name: str
    version: int
    created: str
    digest: str
    types: tuple[str, ...] = ()
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tokenizer: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    infra_validation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    code: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    libraries: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rollback: Rollback | None = None

    @property
    def f1(self) -> float | None:
        """The strict micro F1 on the evaluated split."""
        return self.evaluation.get("strict", {}).get("f1")

    @property
    def data_fingerprint(self) -> str | None:
        """SHA-256 of the corpus."""
        return self.data.get("fingerprint")

    @property
    def code_version(self) -> str | None:
        """Version of the package, with the commit and a mark for changes beside it: `0.1.0+3f9c2ab.modified`."""
        version, commit = self.code.get("version"), self.code.get("commit")
        if version is None or commit is None:
            return version
        return f"{version}+{commit[:7]}{'.modified' if self.code.get('modified') else ''}"

    def to_bytes(self) -> bytes:
        """Returns the card as its file."""
        values = {"schema": SCHEMA, **dataclasses.asdict(self)}
        return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def iso_time(unix_seconds: float) -> str:
    """Returns a time as cards write it: ISO 8601, UTC, whole seconds."""
    moment = datetime.datetime.fromtimestamp(int(unix_seconds), datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def read_card(version_folder: str | os.PathLike[str]) -> ModelCard | None:
    """Reads the card of a version; None if it has none. Members that this program does not know are passed over.

    Raises:
        ModelCardError: the card is damaged, or of a schema that this program does not know.
    """
    path = pathlib.Path(version_folder) / CARD_FILE
    try:
        values = json.loads(path.read_bytes())
        if values["schema"] != SCHEMA:
            raise ModelCardError(
                f"{path}: expected schema {SCHEMA}, received {values['schema']!r}; use the program that wrote it, "
                "or a newer one"
            )
        known = {field.name: values[field.name] for field in dataclasses.fields(ModelCard) if field.name in values}
        rollback = known.pop("rollback", None)
        card = ModelCard(**{**known, "types": tuple(known.get("types", ()))})
        return card if rollback is None else dataclasses.replace(card, rollback=_rollback(rollback))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ModelCardError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelCardError(f"{path} is no model card: {type(error).__name__}: {error}") from error


def _rollback(values: Mapping[str, Any]) -> Rollback:
    withdrawn = tuple(WithdrawnVersion(each["version"], each["digest"]) for each in values["withdrawn"])
    return Rollback(values["restored_version"], values["rolled_back_from"], withdrawn)
