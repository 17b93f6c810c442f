"""Replays the warm-up requests that a version carries, before it serves, as TensorFlow Serving does."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.lib.io import _pywrap_record_io
from tensorflow_serving.apis import prediction_log_pb2

from serving.embedded.prediction import predict
from serving.embedded.saved_model import LoadedModel
from serving.embedded.status import StatusError

logger = logging.getLogger(__name__)

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_MOST_RECORDS = 1000


def warm_up(model: LoadedModel, iterations: int = 1) -> int:
    """Sends the model its own warm-up requests, each `iterations` times; returns the number of records (no file: 0).

    Raises:
        StatusError: a record cannot be read or its request fails: such a version must not serve.
    """
    path = model.path / WARMUP_FILE
    if not path.exists():
        return 0
    logger.info("Starting to read warmup data for model at %s with model-warmup-options ", path)
    started = time.monotonic()
    records = list(itertools.islice(_records(path), _MOST_RECORDS + 1))
    if len(records) > _MOST_RECORDS:
        raise StatusError(
            "INVALID_ARGUMENT", f"Number of warmup records exceeds the maximum ({_MOST_RECORDS}) at {path}"
        )
    for record in records:
        log = prediction_log_pb2.PredictionLog()
        try:
            log.ParseFromString(record)
        except DecodeError:
            shown = record.decode("utf-8", "replace")
            raise StatusError("INVALID_ARGUMENT", f"Failed to parse warmup record: {shown} from {path}") from None
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            for _ in range(max(iterations, 1)):
                predict(model, log.predict_log.request, version=0)
        elif kind is not None:
            number = log.DESCRIPTOR.fields_by_name[kind].number
            raise StatusError("UNIMPLEMENTED", f"Unsupported log_type for warmup: {number}")
    logger.info(
        "Finished reading warmup data for model at %s. Number of warmup records read: %d. "
        "Elapsed time (microseconds): %d.",
        path,
        len(records),
        (time.monotonic() - started) * 1e6,
    )
    return len(records)


def _records(path: Path) -> Iterator[bytes]:
    try:
        # What tf.compat.v1.io.tf_record_iterator wraps; that one logs a warning at every use.
        yield from _pywrap_record_io.RecordIterator(str(path), "")
    except tf.errors.DataLossError as error:
        raise StatusError(
            "DATA_LOSS", f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from error
