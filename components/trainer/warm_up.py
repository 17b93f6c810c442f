"""Warm-up requests: what a model server answers before a version goes live, so that no user meets a cold graph.

TensorFlow optimizes the graph of a signature, and creates its kernels, at the first call; libraries choose kernels by
shape, and memory grows with the largest request. TF Serving replays `assets.extra/tf_serving_warmup_requests` between
loading a version and calling it available, and refuses the version if one request fails. So one request for each
signature also turns "available" into a proof that every signature works.

The requests lie in the model in clear: their texts are made of the vocabulary, never of the corpus.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components import features
from components.trainer.settings import ServingWarmUpSettings
from components.transform.vocabulary import Vocabulary

WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"


def warm_up_requests(
    vocabulary: Vocabulary, max_positions: int, settings: ServingWarmUpSettings
) -> list[predict_pb2.PredictRequest]:
    """Returns the requests, small ones first: every signature gets its smallest one, `serving_default` all of them.

    `explain` gets one only: it is asked by people, one text at a time.

    Args:
        vocabulary: the word pieces of which the texts are made.
        max_positions: most tokens of a row of the signature `tokens`, [CLS] and [SEP] included.
        settings: lengths and batch sizes.
    """
    shapes = sorted(itertools.product(settings.lengths, settings.batch_sizes), key=lambda shape: shape[0] * shape[1])
    kept = [(length, size) for length, size in shapes if length * size <= settings.most_tokens] or shapes[:1]
    # The other signatures share the encoder's kernels with serving_default; a second shape shows that shapes may vary.
    few = [kept[0], kept[len(kept) // 2]] if len(kept) > 1 else kept
    requests = [
        _request(features.SERVING_SIGNATURE, **{features.TEXT: _strings([synthetic_text(vocabulary, length)] * size)})
        for length, size in kept
    ]
    smallest_length, smallest_size = kept[0]
    explained = _strings([synthetic_text(vocabulary, smallest_length)] * smallest_size)
    requests.append(_request(features.EXPLAIN_SIGNATURE, **{features.TEXT: explained}))
    for length, size in few:
        example = _example(synthetic_text(vocabulary, length)).SerializeToString(deterministic=True)
        requests.append(_request(features.EXAMPLES_SIGNATURE, **{features.EXAMPLES: _strings([example] * size)}))
        token_ids = np.full((size, min(length + 2, max_positions)), vocabulary.unk_id, np.int32)
        token_ids[:, 0], token_ids[:, -1] = vocabulary.cls_id, vocabulary.sep_id
        requests.append(
            _request(
                features.TOKENS_SIGNATURE,
                **{features.TOKEN_IDS: token_ids, features.PADDING_MASK: np.ones_like(token_ids)},
            )
        )
    return requests


def write_warm_up(directory: str | os.PathLike[str], requests: Sequence[predict_pb2.PredictRequest]) -> None:
    """Writes the requests into a SavedModel, in the form in which TF Serving reads them."""
    path = os.path.join(os.fspath(directory), WARM_UP_FILE)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))


def read_warm_up(directory: str | os.PathLike[str]) -> list[predict_pb2.PredictRequest]:
    """Returns the requests that a SavedModel carries; none if it has no such file.

    Raises:
        DecodeError: a record is no PredictionLog.
        tf.errors.DataLossError: the file is no TFRecord file.
    """
    path = os.path.join(os.fspath(directory), WARM_UP_FILE)
    if not tf.io.gfile.exists(path):
        return []
    logs = map(prediction_log_pb2.PredictionLog.FromString, tf.data.TFRecordDataset(path).as_numpy_iterator())
    return [log.predict_log.request for log in logs]


def synthetic_text(vocabulary: Vocabulary, length: int) -> str:
    """Returns a text of about `length` word pieces: whole words spread over the vocabulary, with blanks between.

    Example:
        >>> synthetic_text(Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "中", "文", "##s")), 3)
        '中 文 中'
    """
    words = [
        token
        for token in vocabulary.tokens
        if token and not token.startswith("##") and not (token.startswith("[") and token.endswith("]"))
    ] or ["a"]
    # Spread, because neighbours in a vocabulary are alike: all digits, all Latin, all rare.
    step = max(len(words) // length, 1)
    return " ".join(words[(place * step) % len(words)] for place in range(length))


def _request(signature: str, **inputs: np.ndarray) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request


def _example(text: str) -> tf.train.Example:
    """An example as ExampleGen writes it, whose first character is an entity."""
    values: dict[str, Any] = {
        features.ID: tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"warm-up"])),
        features.TEXT: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()])),
        features.ENTITY_START: tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
        features.ENTITY_END: tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
        features.ENTITY_TYPE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"WARM-UP"])),
        features.SOURCE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"warm-up"])),
    }
    return tf.train.Example(features=tf.train.Features(feature=values))


def _strings(values: Sequence[str | bytes]) -> np.ndarray:
    return np.array(values, dtype=object)
