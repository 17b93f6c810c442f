"""The warm-up requests: which they are, what they are made of, and what a server does with them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components.settings import SettingsError
from components.trainer.settings import ServingWarmUpSettings
from components.trainer.warm_up import WARM_UP_FILE, synthetic_text, warm_up_requests, write_warm_up
from components.transform.tokenizer import Tokenizer
from components.transform.vocabulary import Vocabulary
from serving.deploy.production import max_batch_size
from serving.embedded import warmup as embedded
from serving.embedded.saved_model import LoadedModel
from serving.embedded.status import StatusError
from tests.infra_validator.fake_servable import export_servable

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def shapes(requests):
    """(signature, shape of each input) of requests."""
    return [
        (request.model_spec.signature_name, *(tuple(tf.make_ndarray(each).shape) for each in request.inputs.values()))
        for request in requests
    ]


def test_every_signature_gets_its_smallest_request_and_serving_default_all(tiny_vocabulary):
    settings = ServingWarmUpSettings(lengths=(4, 40), batch_sizes=(1, 8), most_tokens=100)

    requests = warm_up_requests(tiny_vocabulary, 32, settings)

    assert shapes(requests) == [
        ("serving_default", (1,)),
        ("serving_default", (8,)),
        ("serving_default", (1,)),  # 40 tokens; 8 texts of 40 would be too many
        ("explain", (1,)),
        ("examples", (1,)),
        ("tokens", (1, 6), (1, 6)),
        ("examples", (8,)),
        ("tokens", (8, 6), (8, 6)),
    ]


def test_rows_of_tokens_fit_the_encoder(tiny_vocabulary):
    settings = ServingWarmUpSettings(lengths=(100,), batch_sizes=(2,))

    requests = warm_up_requests(tiny_vocabulary, 32, settings)

    assert shapes(requests)[-1] == ("tokens", (2, 32), (2, 32))
    token_ids = tf.make_ndarray(requests[-1].inputs["token_ids"])
    assert token_ids.dtype == np.int32
    assert token_ids[0].tolist() == [tiny_vocabulary.cls_id, *[tiny_vocabulary.unk_id] * 30, tiny_vocabulary.sep_id]


def test_the_smallest_request_stays_whatever_the_bound(tiny_vocabulary):
    settings = ServingWarmUpSettings(lengths=(32, 8), batch_sizes=(4,), most_tokens=1)

    assert {name for name, *_ in shapes(warm_up_requests(tiny_vocabulary, 32, settings))} == {
        "serving_default",
        "explain",
        "examples",
        "tokens",
    }


@pytest.mark.parametrize(
    ("tokens", "length", "text"),
    [
        pytest.param(("中", "文", "##s"), 3, "中 文 中", id="again from the start"),
        pytest.param(("a", "b", "c", "d"), 2, "a c", id="spread over the vocabulary"),
        pytest.param(("[unused1]", "##x"), 2, "a a", id="no whole word"),
    ],
)
def test_texts_are_made_of_whole_words_of_the_vocabulary(tokens, length, text):
    assert synthetic_text(Vocabulary((*SPECIAL, *tokens)), length) == text


def test_a_text_has_the_length_that_was_asked_for(tiny_vocabulary):
    tokens = Tokenizer(tiny_vocabulary, lower_case=True)(tf.constant([synthetic_text(tiny_vocabulary, 50)]))

    assert tokens.token_ids.row_lengths().numpy().tolist() == [50]


def test_the_default_covers_the_largest_batches_of_the_cpu_deployment():
    assert max_batch_size("cpu") in ServingWarmUpSettings().batch_sizes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"lengths": ()}, "lengths: expected positive numbers", id="no length"),
        pytest.param({"batch_sizes": (0,)}, "batch_sizes: expected positive numbers", id="empty batch"),
        pytest.param({"lengths": tuple(range(1, 302))}, "lengths: expected at most 300 for these", id="too many"),
        pytest.param({"most_tokens": 0}, "most_tokens: expected a positive number", id="no token"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        ServingWarmUpSettings(**values)


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_vocabulary):
    """A model with the signatures of the tagger and its warm-up requests."""
    folder = export_servable(tmp_path_factory.mktemp("warm_up") / "model")
    write_warm_up(folder, warm_up_requests(tiny_vocabulary, 32, ServingWarmUpSettings(lengths=(4,), batch_sizes=(1,))))
    return folder


def test_the_file_is_an_uncompressed_tfrecord_of_prediction_logs(model, tiny_vocabulary):
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(model / WARM_UP_FILE))
    ]

    assert [log.WhichOneof("log_type") for log in logs] == ["predict_log"] * 4
    text = tf.make_ndarray(logs[0].predict_log.request.inputs["text"])
    assert text.tolist() == [synthetic_text(tiny_vocabulary, 4).encode()]


def test_the_same_requests_make_the_same_file(model, tmp_path, tiny_vocabulary):
    write_warm_up(
        tmp_path, warm_up_requests(tiny_vocabulary, 32, ServingWarmUpSettings(lengths=(4,), batch_sizes=(1,)))
    )

    assert (tmp_path / WARM_UP_FILE).read_bytes() == (model / WARM_UP_FILE).read_bytes()


@pytest.fixture(scope="module")
def loaded(model):
    loaded = LoadedModel(model)
    yield loaded
    loaded.close()


def test_the_embedded_server_replays_every_request(loaded, monkeypatch):
    run: list[str] = []
    original = embedded.predict
    monkeypatch.setattr(
        embedded,
        "predict",
        lambda model, request, version: (
            run.append(request.model_spec.signature_name),
            original(model, request, version),
        ),
    )

    assert embedded.warm_up(loaded) == 4
    assert run == ["serving_default", "explain", "examples", "tokens"]


def log_of(signature: str, **inputs) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, values in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return log.SerializeToString()


GOOD = log_of("serving_default", text=["a"])


@pytest.mark.parametrize(
    ("records", "code", "message"),
    [
        pytest.param([GOOD, log_of("nothing", text=["a"])], "FAILED_PRECONDITION", "not found", id="no such signature"),
        pytest.param([log_of("serving_default", text=[1])], "INVALID_ARGUMENT", "to be string but int32", id="dtype"),
        pytest.param([log_of("serving_default", words=["a"])], "INVALID_ARGUMENT", "words", id="name of an input"),
        pytest.param([log_of("examples", examples=["no example"])], "INVALID_ARGUMENT", "parse", id="failing op"),
        pytest.param([b"\xff\xff"], "INVALID_ARGUMENT", "Failed to parse warmup record", id="no log"),
        pytest.param([GOOD] * 1001, "INVALID_ARGUMENT", "exceeds the maximum", id="1001 records"),
        pytest.param(None, "DATA_LOSS", "TFRecord format", id="no TFRecord"),
    ],
)
def test_a_broken_request_refuses_the_version(loaded, tmp_path, monkeypatch, records, code, message):
    path = tmp_path / WARM_UP_FILE
    path.parent.mkdir()
    if records is None:
        path.write_bytes(b"these are no records, whatever they are")
    else:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
    monkeypatch.setattr(loaded, "path", tmp_path)

    with pytest.raises(StatusError) as raised:
        embedded.warm_up(loaded)

    assert raised.value.code == code
    assert message in raised.value.message
