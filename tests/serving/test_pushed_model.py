"""The real tagger, exported and pushed, answers over the network what it answers in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded_answers import RunningServer
from server_processes import ROOT, Launcher, ProgramLauncher

from serving.client import Client
from serving.deploy.production import production_flags
from serving.messages import TaggedText
from serving.protocol import fusion_ner_protocol_pb2 as protocol

# In a process of its own: what it registers and holds stays out of the other tests.
EXPORT = """
import sys
from components.pusher.publish import publish
from components.tags import tag_names
from components.trainer.encoder_config import EncoderConfig
from components.trainer.servable import Servable, export
from components.trainer.settings import ServingWarmUpSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.warm_up import warm_up_requests, write_warm_up
from components.transform.tokenizer import Tokenizer
from components.transform.vocabulary import Vocabulary

model, serving_directory = sys.argv[1:]
pieces = "[PAD] [UNK] [CLS] [SEP] 小 明 住 在 北 京 上 海 李 工 作 。 ， who ##o in 1 ##2 a b ##b".split()
vocabulary, tags = Vocabulary(tuple(pieces)), tag_names(["LOC", "PER"])
config = EncoderConfig(vocab_size=len(pieces), hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32,
                       max_positions=32, initializer_range=0.5)  # so that untrained weights find entities of every kind
tagger = FusionTagger(config, len(tags), seed=3)
text_tagger = TextTagger(tagger, cls_id=2, sep_id=3, window=32, overlap=8, continuation=None)
export(Servable(Tokenizer(vocabulary, lower_case=True), text_tagger, tags), model)
write_warm_up(model, warm_up_requests(vocabulary, config.max_positions, ServingWarmUpSettings()))
publish(model, serving_directory)
"""

TEXTS = [
    "小明住在北京。",
    "",
    "李小明，who12 在 上海 工作 😀 12 BB",
    "\x00\u200b\ufffd É ﬁ 𠮷",
    "小明住在北京，" * 40,  # longer than the window
]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The serving directory, with one version."""
    folder = tmp_path_factory.mktemp("pushed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", EXPORT, str(folder / "model"), str(folder / "models" / "ner")]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    return folder / "models"


@pytest.fixture(scope="module")
def signatures(pushed: Path) -> Any:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 -- registers the ops of the tokenizer

    (version,) = (path for path in (pushed / "ner").iterdir() if path.name.isdigit())
    return tf.saved_model.load(str(version)).signatures


@pytest.fixture(
    scope="module",
    params=[pytest.param((), id="plain"), pytest.param(production_flags(rest=True), id="as in production")],
)
def server(request: pytest.FixtureRequest, launcher: Launcher, pushed: Path) -> Iterator[RunningServer]:
    if request.param and not isinstance(launcher, ProgramLauncher):
        pytest.skip("batching and metrics belong to TensorFlow Serving")
    setup = {
        "tree": {"ner": "ner"},
        "flags": [
            "--port={GRPC_PORT}",
            "--rest_api_port={REST_PORT}",
            "--model_name=ner",
            "--model_base_path={ROOT}/ner",
            "--max_num_load_retries=0",
            *request.param,
        ],
        "ready": [],
    }
    with RunningServer(launcher, setup, pushed) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    with Client(f"localhost:{server.grpc_port}") as connected:
        yield connected


def _in_process(signatures: Any, texts: list[bytes]) -> dict[str, np.ndarray]:
    import tensorflow as tf

    outputs = signatures["serving_default"](text=tf.constant(texts, tf.string))
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def _assert_same(tagged: TaggedText, outputs: dict[str, np.ndarray], row: int) -> None:
    count = outputs["entity_count"][row]
    cells = {name: values[row, :count] for name, values in outputs.items() if name != "entity_count"}
    assert [entity.start for entity in tagged.entities] == cells["entity_start"].tolist()
    assert [entity.end for entity in tagged.entities] == cells["entity_end"].tolist()
    assert [entity.type.encode() for entity in tagged.entities] == cells["entity_type"].tolist()
    assert [entity.text.encode() for entity in tagged.entities] == cells["entity_text"].tolist()
    np.testing.assert_allclose([entity.score for entity in tagged.entities], cells["entity_score"], atol=1e-5)


def test_answers_are_those_of_the_model_in_process(client: Client, signatures: Any) -> None:
    outputs = _in_process(signatures, [text.encode() for text in TEXTS])

    assert outputs["entity_count"].sum() > 10, "a model that finds nothing would prove nothing"
    for row, tagged in enumerate(client.tag(TEXTS)):
        _assert_same(tagged, outputs, row)


def test_a_text_alone_is_answered_as_among_others(client: Client) -> None:
    for text, among_others in zip(TEXTS, client.tag(TEXTS), strict=True):
        (alone,) = client.tag([text])
        spans = [(entity.start, entity.end, entity.type) for entity in alone.entities]
        assert spans == [(entity.start, entity.end, entity.type) for entity in among_others.entities]


def test_text_of_100000_characters(client: Client) -> None:
    text = "小明住在北京，李明在上海工作。" * 6_667

    (tagged,) = client.tag([text], timeout=120)

    assert tagged.entities
    assert all(text[entity.start : entity.end] == entity.text for entity in tagged.entities)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.binary(max_size=40) | st.text(max_size=20).map(str.encode), max_size=5))
def test_no_bytes_make_the_graph_raise(client: Client, signatures: Any, texts: list[bytes]) -> None:
    request = protocol.PredictRequest(model_spec=protocol.ModelSpec(name="ner"))
    request.inputs["text"].CopyFrom(protocol.TensorProto(dtype=protocol.DT_STRING, string_val=texts))
    request.inputs["text"].tensor_shape.dim.add(size=len(texts))

    response = client.predict(request)

    expected = _in_process(signatures, texts)
    assert list(response.outputs["entity_count"].int_val) == expected["entity_count"].tolist()
    assert list(response.outputs["entity_start"].int_val) == expected["entity_start"].reshape(-1).tolist()
    assert list(response.outputs["entity_text"].string_val) == expected["entity_text"].reshape(-1).tolist()
