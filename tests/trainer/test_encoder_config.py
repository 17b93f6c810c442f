from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable

import pytest

from components.settings import SettingsError
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.encoder_config import EncoderConfig

SHAPE = {
    "vocab_size": 21128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


def write(folder: pathlib.Path, values: object) -> pathlib.Path:
    path = folder / "config.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return path


def test_google_research_config_is_read_whole(tmp_path: pathlib.Path) -> None:
    values = SHAPE | {
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.3,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "initializer_range": 0.05,
        "directionality": "bidi",
        "pooler_fc_size": 768,
    }
    assert EncoderConfig.from_google_research(write(tmp_path, values)) == EncoderConfig(
        vocab_size=21128,
        hidden_size=768,
        num_layers=12,
        num_heads=12,
        intermediate_size=3072,
        max_positions=512,
        type_vocab_size=2,
        hidden_activation="gelu_new",
        layer_norm_epsilon=1e-12,
        hidden_dropout=0.2,
        attention_dropout=0.3,
        initializer_range=0.05,
    )


@pytest.mark.parametrize("read", [EncoderConfig.from_google_research, EncoderConfig.from_hugging_face])
def test_a_byte_order_mark_is_passed_over(tmp_path: pathlib.Path, read: Callable[..., EncoderConfig]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHAPE | {"model_type": "bert"}), encoding="utf-8-sig")
    assert read(path).hidden_size == 768


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            {"num_hidden_layers": 0}, "num_hidden_layers: expected a positive number; received 0", id="layers"
        ),
        pytest.param({"num_hidden_layers": "12"}, "num_hidden_layers: expected int; received '12'", id="type"),
        pytest.param(
            {"num_attention_heads": 7}, "hidden_size: expected a multiple of num_attention_heads, 7", id="heads"
        ),
        pytest.param({"max_position_embeddings": -1}, "max_position_embeddings: expected a positive", id="positions"),
        pytest.param({"type_vocab_size": 0}, "type_vocab_size: expected a positive number", id="types"),
        pytest.param({"hidden_dropout_prob": 2}, "hidden_dropout_prob: expected a rate", id="hidden dropout"),
        pytest.param(
            {"attention_probs_dropout_prob": -1},
            "attention_probs_dropout_prob: expected a rate",
            id="attention dropout",
        ),
        pytest.param({"initializer_range": 0}, "initializer_range: expected a positive number", id="range"),
    ],
)
def test_impossible_values_are_named_as_the_file_names_them(tmp_path: pathlib.Path, values: dict, message: str) -> None:
    path = write(tmp_path, SHAPE | values)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: {message}"):
        EncoderConfig.from_google_research(path)


@pytest.mark.parametrize(
    ("values", "attribute", "expected"),
    [
        pytest.param({"layer_norm_eps": 1e-5}, "layer_norm_epsilon", 1e-5, id="its_own_epsilon"),
        pytest.param({}, "layer_norm_epsilon", 1e-12, id="epsilon_by_default"),
        pytest.param({"hidden_act": "gelu"}, "hidden_activation", "gelu", id="gelu_is_exact"),
        pytest.param({"hidden_act": "gelu_new"}, "hidden_activation", "gelu_new", id="gelu_new"),
        pytest.param({"hidden_act": "gelu_pytorch_tanh"}, "hidden_activation", "gelu_pytorch_tanh", id="gelu_tanh"),
        pytest.param({"hidden_dropout_prob": 0}, "hidden_dropout", 0.0, id="integer_rate"),
        pytest.param({}, "type_vocab_size", 2, id="type_vocab_size_by_default"),
        pytest.param({"architectures": ["RobertaModel"]}, "num_layers", 12, id="model_type_goes_first"),
        pytest.param({"pad_token_id": 1}, "num_layers", 12, id="another_padding"),
    ],
)
def test_hugging_face_config(tmp_path: pathlib.Path, values: dict, attribute: str, expected: object) -> None:
    config = EncoderConfig.from_hugging_face(write(tmp_path, SHAPE | {"model_type": "bert"} | values))
    assert getattr(config, attribute) == expected


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"architectures": ["BertForMaskedLM"]}, id="architecture"),
        pytest.param({"architectures": ["BertModel"], "pad_token_id": 1}, id="architecture_with_another_padding"),
        pytest.param({"architectures": None, "pad_token_id": 0}, id="null"),
        pytest.param({"architectures": [], "cell": {}, "emb_size": 312}, id="tinybert"),
    ],
)
def test_hugging_face_config_without_model_type(tmp_path: pathlib.Path, values: dict) -> None:
    assert EncoderConfig.from_hugging_face(write(tmp_path, SHAPE | values)).num_layers == 12


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"architectures": ["RobertaModel"]}, "architectures: .* received 'RobertaModel'", id="roberta"),
        pytest.param({"architectures": ["BertModel", "XLMModel"]}, "architectures: .*'XLMModel'", id="one_of_two"),
        pytest.param({"architectures": "ElectraModel"}, "architectures: .*'ElectraModel'", id="no_list"),
        pytest.param({"architectures": [7]}, "architectures: .* received 7", id="no_name"),
        pytest.param({"pad_token_id": 1}, "pad_token_id: expected 0; received 1, which is RoBERTa's", id="padding"),
        pytest.param({"model_type": "roberta"}, "model_type: expected 'bert'; received 'roberta'", id="architecture"),
        pytest.param({"position_embedding_type": "relative_key"}, "position_embedding_type", id="relative_positions"),
        pytest.param({"is_decoder": True}, "is_decoder: expected False; received True", id="decoder"),
        pytest.param({"hidden_act": "swish"}, "hidden_act: expected one of .*; received 'swish'", id="activation"),
        pytest.param({"hidden_act": ["gelu"]}, "hidden_act", id="activation_no_string"),
        pytest.param({"hidden_size": 770}, "hidden_size: expected a multiple of num_attention_heads, 12", id="heads"),
        pytest.param({"hidden_size": "768"}, "hidden_size: expected int; received '768'", id="size_as_string"),
        pytest.param({"num_hidden_layers": 0}, "num_hidden_layers: expected a positive number", id="no_layer"),
        pytest.param({"vocab_size": None}, "vocab_size", id="null"),
        pytest.param({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob: expected", id="everything_dropped"),
        pytest.param({"layer_norm_eps": 0}, "layer_norm_eps: expected a number between", id="epsilon_zero"),
    ],
)
def test_unsupported_hugging_face_config_is_refused(tmp_path: pathlib.Path, values: dict, message: str) -> None:
    path = write(tmp_path, SHAPE | values)
    with pytest.raises(CheckpointError, match=message) as raised:
        EncoderConfig.from_hugging_face(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "is no JSON", id="truncated"),
        pytest.param("[]", "expected a JSON object; received list", id="list"),
        pytest.param('{"vocab_size": 5}', "lacks hidden_size, num_hidden_layers", id="keys_missing"),
    ],
)
def test_broken_google_research_config_is_refused(tmp_path: pathlib.Path, text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        EncoderConfig.from_google_research(write(tmp_path, text))


def test_absent_config_is_refused_with_its_path(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.json: cannot be read"):
        EncoderConfig.from_google_research(tmp_path / "absent.json")


def test_impossible_values_are_refused_at_construction() -> None:
    with pytest.raises(SettingsError, match="hidden_size: expected a multiple of num_heads, 3; received 32"):
        EncoderConfig(vocab_size=10, hidden_size=32, num_heads=3)
