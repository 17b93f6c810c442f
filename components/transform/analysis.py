"""What Transform learns from the train split: the vocabulary and the list of entity types, in one Beam transform."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from tensorflow_transform import analyzer_nodes, nodes

from components import features
from components.tags import tag_names
from components.transform.settings import TransformSettings
from components.transform.vocabulary import Vocabulary, VocabularyError
from components.transform.vocabulary_learning import learn_vocabulary
from components.transform.wordpiece_model import build_wordpiece_model

# The outputs of the transform: two tensors and the paths of the assets.
_MODEL, _TYPES = "wordpiece_model", "entity_types"
_ASSETS = (features.VOCABULARY_ASSET, features.TAGS_ASSET, features.TOKENIZER_ASSET)

# What the transform counts, as the first half of a key.
_TYPE, _WORD = 0, 1


class Analysis(NamedTuple):
    """What the analysis of the train split yields, in the graph.

    Attributes:
        wordpiece_model: uint8 [bytes], for `tokenizer.tokenize`.
        entity_types: string [types], sorted.
    """

    wordpiece_model: tf.Tensor
    entity_types: tf.Tensor


def analyze(words: tf.Tensor, entity_types: tf.Tensor, settings: TransformSettings) -> Analysis:
    """Analyzes the train split; leaves the vocabulary, the tags and the settings of the tokenizer as assets.

    Args:
        words: string [W], the words of a batch of texts, from which a vocabulary is learned if none is given.
        entity_types: string [E], the types of the entities of the batch.
        settings: where the vocabulary comes from.
    """
    # A given vocabulary needs no words, and then texts need not be split for the analysis.
    inputs = [entity_types] if settings.vocabulary else [entity_types, words]
    asset = analyzer_nodes.TemporaryAssetInfo(b"", "text")
    # `tft.experimental.ptransform_analyzer` takes every output for an asset as soon as one is; this is its body.
    with tf.compat.v1.name_scope("analyze_train_split"):
        outputs = nodes.apply_multi_output_operation(
            analyzer_nodes.PTransform,
            analyzer_nodes.get_input_tensors_value_nodes(inputs),
            ptransform=_AnalyzeTrainSplit(settings),
            is_partitionable=False,
            output_tensor_info_list=[
                analyzer_nodes.TensorInfo(tf.uint8, [None], None),
                analyzer_nodes.TensorInfo(tf.string, [None], None),
                *(analyzer_nodes.TensorInfo(tf.string, [], asset) for _ in _ASSETS),
            ],
        )
        wordpiece_model, types, *_ = map(analyzer_nodes.wrap_as_tensor, outputs)
    return Analysis(wordpiece_model, types)


def load_given_vocabulary(settings: TransformSettings) -> Vocabulary:
    """Reads the vocabulary that `settings` names.

    Raises:
        VocabularyError: the file cannot be used, or is not the one whose digest `settings` carries.
    """
    assert settings.vocabulary is not None
    digest = vocabulary_digest(settings.vocabulary)
    if settings.vocabulary_digest not in (None, digest):
        raise VocabularyError(f"{settings.vocabulary}: the file changed since the pipeline was built; run it again")
    return Vocabulary.from_file(settings.vocabulary)


def vocabulary_digest(path: str) -> str:
    """Returns the SHA-256 of the file `path`, in hexadecimal.

    Raises:
        VocabularyError: the file cannot be read.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except (tf.errors.OpError, OSError) as error:
        reason = getattr(error, "message", None) or error
        raise VocabularyError(f"{path}: cannot read the vocabulary: {reason}") from error


class _AnalyzeTrainSplit(tft_beam.experimental.PTransformAnalyzer):
    """Batches of entity types (and words) to the tensors and assets, each a collection of one element."""

    def __init__(self, settings: TransformSettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, batches: beam.PCollection[tuple[np.ndarray, ...]]) -> tuple[beam.PCollection, ...]:
        outputs = (
            batches
            | "CountBatch" >> beam.FlatMap(_count_batch)
            | "Count" >> beam.CombinePerKey(sum)
            # A list even if the split is empty.
            | "Gather" >> beam.combiners.ToList()
            | "Conclude"
            >> beam.FlatMap(_conclude, self._settings, self.base_temp_dir).with_outputs(_MODEL, _TYPES, *_ASSETS)
        )
        return tuple(outputs[name] for name in (_MODEL, _TYPES, *_ASSETS))


def _count_batch(batch: tuple[np.ndarray, ...]) -> Iterator[tuple[tuple[int, bytes], int]]:
    for kind, values in zip((_TYPE, _WORD), batch, strict=False):
        for value, count in Counter(values.tolist()).items():
            yield (kind, value), count


def _conclude(
    counts: list[tuple[tuple[int, bytes], int]], settings: TransformSettings, directory: str
) -> Iterator[beam.pvalue.TaggedOutput]:
    types = sorted(value.decode() for (kind, value), _ in counts if kind == _TYPE)
    vocabulary = _vocabulary({value.decode(): count for (kind, value), count in counts if kind == _WORD}, settings)
    assets = {
        features.VOCABULARY_ASSET: vocabulary.to_bytes(),
        features.TAGS_ASSET: "".join(f"{tag}\n" for tag in tag_names(types)).encode(),
        features.TOKENIZER_ASSET: json.dumps({"lower_case": settings.lower_case}).encode() + b"\n",
    }
    yield beam.pvalue.TaggedOutput(_MODEL, build_wordpiece_model(vocabulary))
    yield beam.pvalue.TaggedOutput(_TYPES, np.array([name.encode() for name in types], object))
    tf.io.gfile.makedirs(directory)
    for name, content in assets.items():
        path = os.path.join(directory, name)
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(content)
        yield beam.pvalue.TaggedOutput(name, np.array(path.encode(), object))


def _vocabulary(word_counts: dict[str, int], settings: TransformSettings) -> Vocabulary:
    if settings.vocabulary:
        return load_given_vocabulary(settings)
    return learn_vocabulary(word_counts, size=settings.vocabulary_size, minimum_count=settings.minimum_count)
