"""What tags the texts of a batch: the exported model in the worker, or a model server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from components import features
from components.batch_tagging.records import TaggedEntity
from components.batch_tagging.settings import BatchSettings
from components.batch_tagging.shards import BatchError
from components.pusher.versions import newest_model

# Texts and characters that go through a model together; bounds the memory of a worker.
_MAXIMUM_TEXTS = 64
_MAXIMUM_CHARACTERS = 20_000
_AVAILABLE = "AVAILABLE"

Entities = tuple[TaggedEntity, ...]


class Tagger(Protocol):
    """Tags texts."""

    def tag(self, texts: Sequence[str]) -> list[Entities]:
        """Returns the entities of each text, in order."""


def model_folder(model: str) -> Path:
    """Returns the folder with saved_model.pb: `model` itself, or its newest version.

    Raises:
        BatchError: there is none.
    """
    newest = newest_model(Path(model))
    if newest is None:
        raise BatchError(f"--model {model}: expected a folder with saved_model.pb, or one with such versions")
    return newest


def model_digest(folder: Path) -> str:
    """Returns a digest of graph and weights; the index of the weights has checksums of all of them."""
    digest = hashlib.sha256()
    for name in ("saved_model.pb", "variables/variables.index"):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def served_version(settings: BatchSettings) -> int:
    """Returns the version on the server that the whole batch keeps to.

    Raises:
        BatchError: the server does not answer, or has no such version.
    """
    from serving.client import Client, ConnectionSettings, ServingError

    assert settings.target is not None
    client = Client(
        settings.target,
        model_name=settings.model_name,
        version=settings.model_version,
        settings=ConnectionSettings(timeout=settings.timeout),
    )
    try:
        with client:
            versions = [status.version for status in client.status() if status.state == _AVAILABLE]
    except ServingError as error:
        raise BatchError(f"--target {settings.target}: {error}") from error
    if not versions:
        raise BatchError(f"--target {settings.target}: no version of {settings.model_name!r} is available")
    return max(versions)


def create_tagger(settings: BatchSettings) -> Tagger:
    """Returns the tagger that `settings` name; for use in a worker, because models and connections do not travel."""
    if settings.model is not None:
        return SavedModelTagger(Path(settings.model))
    return ServerTagger(settings)


class SavedModelTagger:
    """Tags with an exported model in this process.

    Args:
        folder: the folder with saved_model.pb.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf
        import tensorflow_text  # noqa: F401 - registers the ops of the tokenizer inside the model

        # The loaded object must outlive its signatures.
        self._model = tf.saved_model.load(str(folder))
        self._signature = self._model.signatures[features.SERVING_SIGNATURE]

    def tag(self, texts: Sequence[str]) -> list[Entities]:
        """Returns the entities of each text, in order; texts of like length go through the model together."""
        from serving.messages import batch_texts

        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        results: list[Entities] = [()] * len(texts)
        done = 0
        batches = batch_texts(
            [texts[index] for index in order], max_texts=_MAXIMUM_TEXTS, max_characters=_MAXIMUM_CHARACTERS
        )
        for batch in batches:
            for entities in self._tag_batch(batch):
                results[order[done]] = entities
                done += 1
        return results

    def _tag_batch(self, texts: Sequence[str]) -> list[Entities]:
        import tensorflow as tf

        from serving.messages import text_bytes

        outputs = self._signature(**{features.TEXT: tf.constant([text_bytes(text) for text in texts])})
        counts, starts, ends, types, surfaces, scores = (
            outputs[name].numpy().tolist()
            for name in (
                features.ENTITY_COUNT,
                features.ENTITY_START,
                features.ENTITY_END,
                features.ENTITY_TYPE,
                features.ENTITY_TEXT,
                features.ENTITY_SCORE,
            )
        )
        rows = zip(counts, starts, ends, types, surfaces, scores, strict=True)
        return [
            tuple(
                TaggedEntity(start, end, name.decode("utf-8"), surface.decode("utf-8"), score)
                for start, end, name, surface, score in list(zip(*columns, strict=True))[:count]
            )
            for count, *columns in rows
        ]


class ServerTagger:
    """Tags through a model server, always with the same version.

    Args:
        settings: with target and version.
    """

    def __init__(self, settings: BatchSettings) -> None:
        from serving.client import Client, ConnectionSettings

        assert settings.target is not None
        self._client = Client(
            settings.target,
            model_name=settings.model_name,
            version=settings.model_version,
            settings=ConnectionSettings(timeout=settings.timeout),
        )

    def tag(self, texts: Sequence[str]) -> list[Entities]:
        """Returns the entities of each text, in order.

        Raises:
            ServingError: the server failed for longer than the client retries.
        """
        return [
            tuple(TaggedEntity(e.start, e.end, e.type, e.text, e.score) for e in tagged.entities)
            for tagged in self._client.tag(texts)
        ]
