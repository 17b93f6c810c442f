from __future__ import annotations

import json
import pathlib

import pytest

from components import progress
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.encoder_config import EncoderConfig
from components.trainer.encoder_directory import (
    check_vocabulary_size,
    detect_encoder_directory,
    encoder_config_from_directory,
    google_research_prefix,
    hugging_face_weights,
)

CONFIG = (
    '{"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, '
    '"hidden_act": "gelu"}'
)


def folder_with(folder: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        (folder / name).write_text(CONFIG if name.endswith("config.json") else "", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("names", "layout", "activation"),
    [
        pytest.param(["config.json", "model.safetensors"], "hugging_face", "gelu", id="hugging_face"),
        pytest.param(["config.json", "model.safetensors.index.json"], "hugging_face", "gelu", id="sharded"),
        pytest.param(
            ["bert_config.json", "bert_model.ckpt.index"], "google_research", "gelu_new", id="google_research"
        ),
        pytest.param(["bert_config.json", "model.ckpt-7.index"], "google_research", "gelu_new", id="other_name"),
        pytest.param(["config.json", "pytorch_model.bin"], "hugging_face", "gelu", id="torch"),
        pytest.param(["config.json", "pytorch_model.bin.index.json"], "hugging_face", "gelu", id="torch_sharded"),
        pytest.param(["bert_config.json", "pytorch_model.bin"], "hugging_face", "gelu", id="torch_of_hfl"),
        pytest.param(["bert_config.json", "model.safetensors"], "hugging_face", "gelu", id="safetensors_of_hfl"),
        pytest.param(
            ["config.json", "bert_config.json", "pytorch_model.bin", "bert_model.ckpt.index"],
            "google_research",
            "gelu_new",
            id="a_checkpoint_before_a_pickle",
        ),
        pytest.param(
            ["config.json", "bert_config.json", "model.safetensors", "bert_model.ckpt.index"],
            "hugging_face",
            "gelu",
            id="safetensors_before_a_checkpoint",
        ),
    ],
)
def test_layouts(tmp_path: pathlib.Path, names: list[str], layout: str, activation: str) -> None:
    folder = folder_with(tmp_path, *names)
    assert detect_encoder_directory(folder) == layout
    assert encoder_config_from_directory(folder).hidden_activation == activation


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param([], r"expected config\.json with model\.safetensors", id="empty"),
        pytest.param(["config.json"], r"expected config\.json with model\.safetensors", id="no_weights"),
        pytest.param(["pytorch_model.bin"], r"expected config\.json with .* or pytorch_model\.bin", id="weights_only"),
        pytest.param(["bert_model.ckpt.index"], r"bert_config\.json", id="no_config"),
    ],
)
def test_other_folders_are_refused(tmp_path: pathlib.Path, names: list[str], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        detect_encoder_directory(folder_with(tmp_path, *names))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_shards_of_an_index(tmp_path: pathlib.Path, weights: str, encoding: str) -> None:
    index = {"metadata": {}, "weight_map": {"a": "shard-2", "b": "shard-1", "c": "shard-2"}}
    (tmp_path / f"{weights}.index.json").write_text(json.dumps(index), encoding=encoding)
    folder_with(tmp_path, "shard-1", "shard-2")
    assert hugging_face_weights(tmp_path) == [tmp_path / "shard-1", tmp_path / "shard-2"]
    (tmp_path / "shard-1").unlink()
    with pytest.raises(CheckpointError, match=rf"{weights}\.index\.json: shards are missing: shard-1$"):
        hugging_face_weights(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        pytest.param([], "expected a JSON object; received list", id="list"),
        pytest.param({}, "weight_map: expected the file of each tensor; received None", id="no_map"),
        pytest.param({"weight_map": {}}, "weight_map: expected the file of each tensor; received {}", id="empty_map"),
        pytest.param({"weight_map": ["a"]}, "weight_map: expected the file of each tensor", id="list_of_files"),
        pytest.param({"weight_map": {"a": "s", "b": None}}, "name of a file for b; received None", id="null"),
        pytest.param({"weight_map": {"a": "s", "b": ["s"]}}, r"name of a file for b; received \['s'\]", id="nested"),
        pytest.param({"weight_map": {"a": 1, "b": "s"}}, "name of a file for a; received 1", id="number"),
    ],
)
def test_a_damaged_index_is_named(tmp_path: pathlib.Path, index: object, message: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"model\.safetensors\.index\.json: .*{message}"):
        hugging_face_weights(tmp_path)


def test_absent_folder_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="absent: there is no such folder"):
        encoder_config_from_directory(tmp_path / "absent")


def test_the_named_checkpoint_goes_first(tmp_path: pathlib.Path) -> None:
    folder_with(tmp_path, "bert_model.ckpt.index", "model.ckpt-7.index")
    assert google_research_prefix(tmp_path) == tmp_path / "bert_model.ckpt"


def test_several_checkpoints_are_refused(tmp_path: pathlib.Path) -> None:
    folder_with(tmp_path, "model.ckpt-7.index", "model.ckpt-8.index")
    with pytest.raises(CheckpointError, match=r"found model\.ckpt-7, model\.ckpt-8"):
        google_research_prefix(tmp_path)


@pytest.mark.parametrize(
    ("token_count", "exactly"),
    [
        pytest.param(101, False, id="more"),
        pytest.param(101, True, id="more_exactly"),
        pytest.param(99, True, id="fewer"),
    ],
)
def test_vocabulary_of_another_encoder_is_refused(token_count: int, exactly: bool) -> None:
    config = EncoderConfig(vocab_size=100)
    check_vocabulary_size(config, 100, "vocab.txt", exactly=exactly)
    message = rf"vocab\.txt: has {token_count} tokens, but the encoder has 100 word embeddings"
    with pytest.raises(CheckpointError, match=message):
        check_vocabulary_size(config, token_count, "vocab.txt", exactly=exactly)


def test_a_padded_table_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    monkeypatch.setattr(progress, "report", reported.append)
    check_vocabulary_size(EncoderConfig(vocab_size=100), 100, "vocab.txt")
    assert not reported
    check_vocabulary_size(EncoderConfig(vocab_size=100), 97, "vocab.txt")
    assert reported == [
        "vocab.txt: has 97 tokens, and the encoder 100 word embeddings, so the last 3 have none: a padded table, or "
        "the vocabulary of another encoder"
    ]
