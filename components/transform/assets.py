"""Reading back what Transform leaves beside its graph."""

from __future__ import annotations

import dataclasses
import json
import os

import tensorflow as tf

from components import features
from components.transform.tokenizer import Tokenizer
from components.transform.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class TransformAssets:
    """What a model needs to tokenize as its training data was, and to name its tags.

    Args:
        vocabulary: the word pieces.
        lower_case: whether the vocabulary is uncased.
        tags: the tags in id order, see `components.tags.tag_names`.
    """

    vocabulary: Vocabulary
    lower_case: bool
    tags: tuple[str, ...]

    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.vocabulary, lower_case=self.lower_case)


def read_assets(transform_graph: str) -> TransformAssets:
    """Reads the assets of a transform graph, the output artifact of Transform.

    Args:
        transform_graph: the folder that holds `transform_fn/`.

    Raises:
        tf.errors.NotFoundError: an asset is not there.
        VocabularyError: the vocabulary is broken.
    """
    folder = os.path.join(transform_graph, "transform_fn", "assets")

    def read(name: str) -> bytes:
        with tf.io.gfile.GFile(os.path.join(folder, name), "rb") as file:
            return file.read()

    return TransformAssets(
        vocabulary=Vocabulary.from_file(os.path.join(folder, features.VOCABULARY_ASSET)),
        lower_case=json.loads(read(features.TOKENIZER_ASSET))["lower_case"],
        tags=tuple(read(features.TAGS_ASSET).decode().removesuffix("\n").split("\n")),
    )
