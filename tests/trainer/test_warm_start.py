"""Tests of starting from a served version: the weights arrive, and versions of something else are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.pusher.model_card import CARD_FILE, ModelCard, read_card
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.encoder_config import EncoderConfig
from components.trainer.settings import TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.warm_start import load_version, newest_version, with_decisions
from components.transform.vocabulary import Vocabulary

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
VOCABULARY = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"))


def _text_tagger(*, seed: int, hidden_size: int = 8, num_layers: int = 1, crf: bool = False) -> TextTagger:
    config = EncoderConfig(
        vocab_size=len(VOCABULARY), hidden_size=hidden_size, num_layers=num_layers, num_heads=2, intermediate_size=8,
        max_positions=8,
    )  # fmt: skip
    transitions = np.full((len(TAGS) + 1,) * 2, seed, np.float32) if crf else None
    tagger = FusionTagger(config, len(TAGS), seed=seed, transitions=transitions)
    return TextTagger(tagger, cls_id=2, sep_id=3, window=8, overlap=2, continuation=None)


class _Servable(tf.Module):
    def __init__(self, text_tagger: TextTagger) -> None:
        super().__init__()
        self.text_tagger = text_tagger


def _weights(text_tagger: TextTagger) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in text_tagger.tagger.named_variables().items()}


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A serving folder with the versions 9 and 10."""
    for version in (9, 10):
        folder = tmp_path / "serving" / str(version)
        tf.saved_model.save(_Servable(_text_tagger(seed=version)), str(folder))
        card = ModelCard(
            name="ner",
            version=version,
            created="2026-11-24T00:00:00Z",
            digest="",
            types=("LOC", "PER"),
            model={"whole_words": False, "annotated_by_whitespace": version == 10},
            training={"settings": {"loss": "masked", "decoder": "softmax"}} if version == 10 else {},
            tokenizer={"vocabulary_sha256": hashlib.sha256(VOCABULARY.to_bytes()).hexdigest(), "lower_case": True},
        )
        (folder / CARD_FILE).parent.mkdir(exist_ok=True)
        (folder / CARD_FILE).write_bytes(card.to_bytes())
    return tmp_path / "serving"


def _tell_on_the_card(version: Path, model: dict[str, object], training: dict[str, object]) -> None:
    card = read_card(version)
    card = dataclasses.replace(card, model=dict(card.model) | model, training=dict(card.training) | training)
    (version / CARD_FILE).write_bytes(card.to_bytes())


def test_the_newest_version(served: Path, tmp_path: Path) -> None:
    assert newest_version(served) == served / "10"
    assert newest_version(tmp_path / "nowhere") is None
    (tmp_path / "empty").mkdir()
    assert newest_version(tmp_path / "empty") is None


@pytest.mark.parametrize(
    ("version", "settings", "whole_words", "by_whitespace"),
    [
        pytest.param("10", {}, False, True, id="what the version decided"),
        pytest.param("9", {}, None, None, id="a version that was converted"),
        pytest.param("10", {"whole_words": True}, True, True, id="one of the two is set"),
        pytest.param("10", {"annotated_by_whitespace": False}, False, False, id="the other one"),
        pytest.param("10", {"decoder": "crf"}, False, None, id="a loss that cannot leave pieces out"),
    ],
)
def test_what_the_texts_decided_stays(served, version, settings, whole_words, by_whitespace):
    decided = with_decisions(TrainerSettings(**settings), served / version)
    assert (decided.whole_words, decided.annotated_by_whitespace) == (whole_words, by_whitespace)


def test_texts_that_were_not_asked_decided_nothing(served):
    card = read_card(served / "10")
    training = {"settings": {"loss": "masked", "decoder": "crf"}}
    card = dataclasses.replace(card, training=training, model=dict(card.model) | {"annotated_by_whitespace": False})
    (served / "10" / CARD_FILE).write_bytes(card.to_bytes())
    decided = with_decisions(TrainerSettings(), served / "10")
    assert (decided.whole_words, decided.annotated_by_whitespace) == (False, None)


def test_every_weight_arrives(served: Path) -> None:
    text_tagger = _text_tagger(seed=1)
    before = _weights(text_tagger)
    load_version(text_tagger, served / "10", VOCABULARY, TAGS, lower_case=True)
    after, expected = _weights(text_tagger), _weights(_text_tagger(seed=10))
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    for name, values in expected.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_version_of_lower_precision(served: Path, precision: str) -> None:
    low = _text_tagger(seed=10)
    low.tagger = low.tagger.in_precision(precision)
    shutil.rmtree(served / "10" / "variables")
    tf.saved_model.save(_Servable(low), str(served / "10"))
    text_tagger = _text_tagger(seed=1)
    load_version(text_tagger, served / "10", VOCABULARY, TAGS, lower_case=True)
    assert {variable.dtype for variable in text_tagger.trainable_variables} == {tf.float32}
    expected = _weights(low)
    for name, values in _weights(text_tagger).items():
        np.testing.assert_array_equal(values, expected[name].astype(np.float32), err_msg=name)


def test_trained_transitions_arrive(served: Path) -> None:
    tf.saved_model.save(_Servable(_text_tagger(seed=10, crf=True)), str(served / "10"))
    _tell_on_the_card(served / "10", {}, {"settings": {"loss": "masked", "decoder": "crf"}})
    text_tagger = _text_tagger(seed=1, crf=True)
    load_version(text_tagger, served / "10", VOCABULARY, TAGS, lower_case=True)
    assert np.all(_weights(text_tagger)["transitions"] == 10)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        pytest.param("10", "has the decoder softmax, and this training has crf", id="by the card"),
        pytest.param("9", "the weights of .* do not fit this model", id="a version that was converted, by the weights"),
    ],
)
def test_a_version_without_transitions_is_no_start_for_a_crf(served: Path, version: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"{message}.*the fusion and the decoder of that version"):
        load_version(_text_tagger(seed=1, crf=True), served / version, VOCABULARY, TAGS, lower_case=True)


@pytest.mark.parametrize(
    ("shape", "vocabulary", "tags", "message"),
    [
        pytest.param({"hidden_size": 4}, VOCABULARY, TAGS, "do not fit this model", id="narrower"),
        pytest.param({"num_layers": 2}, VOCABULARY, TAGS, "do not fit this model", id="deeper"),
        pytest.param({}, Vocabulary((*VOCABULARY.tokens[:-1], "c")), TAGS, "another vocabulary", id="vocabulary"),
        pytest.param({}, VOCABULARY, ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG"), "the corpus has LOC, ORG", id="types"),
    ],
)
def test_a_version_of_something_else(
    served: Path, shape: dict[str, int], vocabulary: Vocabulary, tags: tuple[str, ...], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_version(_text_tagger(seed=1, **shape), served / "10", vocabulary, tags, lower_case=True)


def test_a_version_with_another_casing(served: Path) -> None:
    message = r"10 lower-cases its texts, and training keeps their case; set transform\.lower_case as"
    with pytest.raises(CheckpointError, match=message):
        load_version(_text_tagger(seed=1), served / "10", VOCABULARY, TAGS, lower_case=False)


def _encoder(**changed: object) -> dict[str, object]:
    return dataclasses.asdict(_text_tagger(seed=1).tagger.encoder_config) | changed


@pytest.mark.parametrize(
    ("model", "training", "message"),
    [
        pytest.param({"encoder": {"num_heads": 4}}, {}, "has num_heads 4, and this training has 2;", id="heads"),
        pytest.param(
            {"encoder": _encoder(hidden_activation="gelu")},
            {},
            "has hidden_activation gelu, and this training has gelu_new;",
            id="activation",
        ),
        pytest.param(
            {"encoder": _encoder(layer_norm_epsilon=1e-5)},
            {},
            "has layer_norm_epsilon 1e-05, and this training has 1e-12;",
            id="epsilon",
        ),
        pytest.param({"encoder": _encoder(max_positions=9)}, {}, "has max_positions 9, and this", id="positions"),
        pytest.param({"fusion": "static"}, {}, "has the fusion static, and this training has dynamic;", id="fusion"),
        pytest.param(
            {}, {"settings": {"decoder": "crf"}}, "has the decoder crf, and this training has softmax;", id="decoder"
        ),
    ],
)
def test_a_version_whose_weights_mean_something_else(
    served: Path, model: dict[str, object], training: dict[str, object], message: str
) -> None:
    """Every shape fits."""
    _tell_on_the_card(served / "10", model, training)
    with pytest.raises(CheckpointError, match=rf"^trainer\.warm_start: .*10 {message}"):
        load_version(_text_tagger(seed=1), served / "10", VOCABULARY, TAGS, lower_case=True)


@pytest.mark.parametrize(
    ("model", "training"),
    [
        pytest.param({"encoder": _encoder(), "fusion": "dynamic"}, {}, id="the same architecture"),
        pytest.param({"encoder": _encoder(hidden_activation="gelu_pytorch_tanh")}, {}, id="a synonym"),
        pytest.param(
            {"encoder": _encoder(hidden_dropout=0.3, attention_dropout=0.3, initializer_range=1.0)},
            {},
            id="what is of training only",
        ),
        pytest.param({"encoder": {"num_layers": 1}}, {"settings": {}}, id="a card that says little"),
        pytest.param({"encoder": _encoder(of_a_later_program=1)}, {}, id="a card that says more"),
        pytest.param({}, {"converted_from": "model.ckpt-7"}, id="a version that was converted"),
    ],
)
def test_a_version_of_this_architecture(served: Path, model: dict[str, object], training: dict[str, object]) -> None:
    _tell_on_the_card(served / "10", model, training)
    text_tagger = _text_tagger(seed=1)
    load_version(text_tagger, served / "10", VOCABULARY, TAGS, lower_case=True)
    np.testing.assert_array_equal(
        _weights(text_tagger)["output_weights"], _weights(_text_tagger(seed=10))["output_weights"]
    )


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_version_without_a_card_that_can_be_read(served: Path, content: bytes | None) -> None:
    card = served / "10" / CARD_FILE
    card.unlink()
    if content is not None:
        card.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"trainer\.warm_start: "):
        load_version(_text_tagger(seed=1), served / "10", VOCABULARY, TAGS, lower_case=True)
