from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from components.trainer.checkpoint_error import CheckpointError
from components.trainer.checkpoint_huggingface import hugging_face_names, load_hugging_face
from components.trainer.checkpoints import load_encoder
from components.trainer.encoder_directory import encoder_config_from_directory
from components.trainer.packing import plan_rows
from components.trainer.tagger import FusionTagger
from tests.trainer.numpy_bert import padded_layers
from tests.trainer.tiny_taggers import TINY, google_research_weights, hugging_face_tensors, random_tagger
from tests.trainer.torch_files import state_dict, write_legacy, write_zip

Tensors = dict[str, np.ndarray]


def google_research_names_of(tensors: Tensors) -> Tensors:
    """Returns Hugging Face tensors under google-research/bert's names, for the NumPy reference."""
    weights = {}
    for name, values in tensors.items():
        module, _, tensor = re.sub(r"layer\.(\d+)", r"layer_\1", name).replace(".", "/").rpartition("/")
        if module.endswith("_embeddings"):
            weights[f"bert/{module}"] = values
        elif module.endswith("LayerNorm"):
            weights[f"bert/{module}/{'gamma' if tensor == 'weight' else 'beta'}"] = values
        else:
            weights[f"bert/{module}/{'kernel' if tensor == 'weight' else 'bias'}"] = values.T
    return weights


def with_bert_prefix(tensors: Tensors) -> Tensors:
    return {f"bert.{name}": values for name, values in tensors.items()}


def with_legacy_names(tensors: Tensors) -> Tensors:
    def legacy(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    return {legacy(name): values for name, values in tensors.items()}


def with_unused(tensors: Tensors) -> Tensors:
    unused = {
        "bert.pooler.dense.weight": np.ones([16, 16], np.float32),
        "bert.embeddings.position_ids": np.arange(24)[np.newaxis],
        "cls.predictions.bias": np.ones([30], np.float32),
        "cls.seq_relationship.weight": np.ones([2, 16], np.float32),
        "fit_dense.weight": np.ones([32, 16], np.float32),
    }
    return with_bert_prefix(tensors) | unused


def as_type(dtype: type) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: values.astype(dtype) for name, values in tensors.items()}


def same(tensors: Tensors) -> Tensors:
    return tensors


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        pytest.param(same, 0, id="plain"),
        pytest.param(with_bert_prefix, 0, id="prefix_bert"),
        pytest.param(with_legacy_names, 0, id="gamma_and_beta"),
        pytest.param(with_unused, 0, id="pooler_and_heads_dropped"),
        pytest.param(as_type(np.float16), 1e-3, id="float16"),
        pytest.param(as_type(ml_dtypes.bfloat16), 1e-2, id="bfloat16"),
        pytest.param(as_type(np.float64), 0, id="float64"),
    ],
)
def test_all_tensors_arrive(tmp_path: pathlib.Path, change: Callable[[Tensors], Tensors], tolerance: float) -> None:
    source = random_tagger()
    save_file(change(hugging_face_tensors(google_research_weights(source))), tmp_path / "model.safetensors")
    tagger = FusionTagger(TINY, tag_count=5)
    head = tagger.classifier.output_weights.numpy()
    load_hugging_face(tagger, tmp_path)
    for name, values in source.named_variables().items():
        if name.startswith("bert/"):
            np.testing.assert_allclose(tagger.named_variables()[name], values, atol=tolerance, err_msg=name)
    np.testing.assert_array_equal(tagger.classifier.output_weights, head)


def test_shards_are_read_together(tmp_path: pathlib.Path) -> None:
    source = random_tagger()
    tensors = hugging_face_tensors(google_research_weights(source))
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, shard_names in shards.items():
        save_file({name: tensors[name] for name in shard_names}, tmp_path / shard)
    weight_map = {name: shard for shard, shard_names in shards.items() for name in shard_names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    tagger = FusionTagger(TINY, tag_count=5)
    load_hugging_face(tagger, tmp_path)
    np.testing.assert_array_equal(
        tagger.named_variables()["bert/encoder/layer_2/output/dense/kernel"],
        source.named_variables()["bert/encoder/layer_2/output/dense/kernel"],
    )
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shards are missing: model-00002-of-00002\.safetensors"):
        load_hugging_face(tagger, tmp_path)


@pytest.mark.parametrize("write", [write_zip, write_legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("configuration", ["config.json", "bert_config.json"])
@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        pytest.param(same, 0, id="plain"),
        pytest.param(with_unused, 0, id="pooler_and_heads_dropped"),
        pytest.param(as_type(np.float16), 1e-3, id="float16"),
        pytest.param(as_type(ml_dtypes.bfloat16), 1e-2, id="bfloat16"),
    ],
)
def test_all_tensors_arrive_from_files_of_torch(
    tmp_path: pathlib.Path,
    write: Callable[[pathlib.Path, object], None],
    configuration: str,
    change: Callable[[Tensors], Tensors],
    tolerance: float,
) -> None:
    source = random_tagger()
    write(tmp_path / "pytorch_model.bin", state_dict(change(hugging_face_tensors(google_research_weights(source)))))
    (tmp_path / configuration).write_text("{}", encoding="utf-8")
    tagger = FusionTagger(TINY, tag_count=5)
    load_encoder(tagger, tmp_path)
    for name, values in source.named_variables().items():
        if name.startswith("bert/"):
            np.testing.assert_allclose(tagger.named_variables()[name], values, atol=tolerance, err_msg=name)


def test_shards_of_torch_are_read_together(tmp_path: pathlib.Path) -> None:
    source = random_tagger()
    tensors = hugging_face_tensors(google_research_weights(source))
    names = sorted(tensors)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for shard, shard_names in shards.items():
        write_zip(tmp_path / shard, state_dict({name: tensors[name] for name in shard_names}))
    weight_map = {name: shard for shard, shard_names in shards.items() for name in shard_names}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    tagger = FusionTagger(TINY, tag_count=5)
    load_hugging_face(tagger, tmp_path)
    for name, values in source.named_variables().items():
        if name.startswith("bert/"):
            np.testing.assert_array_equal(tagger.named_variables()[name], values, err_msg=name)


def test_safetensors_go_before_files_of_torch(tmp_path: pathlib.Path) -> None:
    source = random_tagger()
    save_file(hugging_face_tensors(google_research_weights(source)), tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"nothing of use")
    load_hugging_face(FusionTagger(TINY, tag_count=5), tmp_path)


def test_missing_left_over_and_wrongly_shaped_tensors_are_listed(tmp_path: pathlib.Path) -> None:
    tensors = hugging_face_tensors(google_research_weights(random_tagger()))
    del tensors["encoder.layer.1.attention.self.key.bias"]
    tensors["classifier.weight"] = np.ones([2, 16], np.float32)
    tensors["encoder.layer.3.output.dense.bias"] = np.ones([16], np.float32)
    tensors["encoder.layer.0.intermediate.dense.weight"] = np.ones([16, 24], np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as raised:
        load_hugging_face(FusionTagger(TINY, tag_count=5), tmp_path)
    assert str(raised.value).endswith(
        "1 missing: encoder.layer.1.attention.self.key.bias; "
        "2 left over: classifier.weight, encoder.layer.3.output.dense.bias; "
        "1 of the wrong shape: encoder.layer.0.intermediate.dense.weight is [16, 24] and not [24, 16]"
    )


@pytest.mark.parametrize(
    ("file", "type_name"), [pytest.param("model.safetensors", "I8"), pytest.param("pytorch_model.bin", "int8")]
)
def test_quantized_weights_are_refused(tmp_path: pathlib.Path, file: str, type_name: str) -> None:
    name = "encoder.layer.1.attention.self.key.bias"
    tensors = hugging_face_tensors(google_research_weights(random_tagger()))
    tensors[name] = tensors[name].astype(np.int8)
    if file == "model.safetensors":
        save_file(tensors, tmp_path / file)
    else:
        write_zip(tmp_path / file, state_dict(tensors))
    with pytest.raises(CheckpointError, match=rf"the tensor {re.escape(name)} has the type {type_name}; expected"):
        load_hugging_face(FusionTagger(TINY, tag_count=5), tmp_path)


def test_a_tensor_under_two_names_is_refused(tmp_path: pathlib.Path) -> None:
    tensors = hugging_face_tensors(google_research_weights(random_tagger()))
    tensors["bert.embeddings.LayerNorm.gamma"] = np.ones([16], np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"embeddings\.LayerNorm\.weight occurs twice"):
        load_hugging_face(FusionTagger(TINY, tag_count=5), tmp_path)


def damage_nothing_left(content: bytes) -> bytes:
    return b""


def damage_tail(content: bytes) -> bytes:
    return content[:-100]


def damage_header(content: bytes) -> bytes:
    return content[:8] + b"x" + content[9:]


@pytest.mark.parametrize("damage", [damage_nothing_left, damage_tail, damage_header])
def test_damaged_files_are_named(tmp_path: pathlib.Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "model.safetensors"
    save_file(hugging_face_tensors(google_research_weights(random_tagger())), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read; the file is damaged"):
        load_hugging_face(FusionTagger(TINY, tag_count=5), tmp_path)


def test_absent_weights_are_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors: there is no such file"):
        load_hugging_face(FusionTagger(TINY, tag_count=5), tmp_path)


@pytest.mark.parametrize(
    ("name", "variable", "transpose"),
    [
        ("embeddings.word_embeddings.weight", "bert/embeddings/word_embeddings", False),
        ("embeddings.LayerNorm.bias", "bert/embeddings/LayerNorm/beta", False),
        ("encoder.layer.2.output.dense.weight", "bert/encoder/layer_2/output/dense/kernel", True),
        (
            "encoder.layer.1.intermediate.dense.weight",
            "bert/encoder/layer_1/intermediate/dense/kernel_transposed",
            False,
        ),
        (
            "encoder.layer.0.attention.self.value.weight",
            "bert/encoder/layer_0/attention/self/query_key_value/kernel",
            True,
        ),
    ],
)
def test_names(name: str, variable: str, transpose: bool) -> None:
    destination = hugging_face_names(TINY)[name]
    assert (destination.variable, destination.transpose) == (variable, transpose)


@pytest.mark.skipif(
    "FUSION_NER_TEST_ENCODER" not in os.environ, reason="FUSION_NER_TEST_ENCODER names no encoder folder"
)
def test_a_real_encoder_computes_what_numpy_does() -> None:
    directory = pathlib.Path(os.environ["FUSION_NER_TEST_ENCODER"])
    config = encoder_config_from_directory(directory)
    tagger = FusionTagger(config, tag_count=5)
    load_encoder(tagger, directory)
    random = np.random.default_rng(0)
    mask = np.arange(19) < np.array([19, 4, 11])[:, np.newaxis]
    token_ids = np.where(mask, random.integers(0, config.vocab_size, mask.shape), 0)
    tensors = {
        name.removeprefix("bert."): values for name, values in load_file(directory / "model.safetensors").items()
    }
    expected = padded_layers(google_research_names_of(tensors), config, token_ids, mask)
    plan = plan_rows(tf.constant(mask.sum(-1), tf.int32), num_heads=tagger.encoder_config.num_heads)
    layers = tagger.encoder(tf.constant(token_ids[mask], tf.int32), plan)
    differences = [
        np.abs(layer - expected_layer[mask]).max() for layer, expected_layer in zip(layers, expected, strict=True)
    ]
    print("largest difference of each layer:", *(f"{difference:.1e}" for difference in differences))
    assert max(differences) < 5e-5
