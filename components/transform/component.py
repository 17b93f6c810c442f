"""The Transform component of the pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf
from tfx.components.transform.component import Transform
from tfx.proto import transform_pb2
from tfx.types import BaseChannel

from components.settings import settings_to_json
from components.transform.analysis import vocabulary_digest
from components.transform.settings import TransformSettings

# An import path, so that every worker finds the function in the installed package.
PREPROCESSING_FN = "components.transform.preprocessing.preprocessing_fn"


def create_transform(
    *,
    examples: BaseChannel,
    schema: BaseChannel,
    settings: TransformSettings,
    splits: Sequence[str] = ("train", "dev", "test"),
) -> Transform:
    """Returns the component that tokenizes `examples`; vocabulary and tags come from the split `train` alone.

    Raises:
        VocabularyError: the given vocabulary is there and cannot be read.
    """
    # A vocabulary that lies on a cluster's volume cannot be read where the pipeline is compiled.
    if settings.vocabulary and tf.io.gfile.exists(settings.vocabulary):
        settings = dataclasses.replace(settings, vocabulary_digest=vocabulary_digest(settings.vocabulary))
    return Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=PREPROCESSING_FN,
        splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=list(splits)),
        custom_config=settings_to_json(settings),
        disable_statistics=not settings.statistics,
        # The analysis is one transform that cannot be cached by span.
        disable_analyzer_cache=True,
    )
