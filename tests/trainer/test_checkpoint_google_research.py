from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from components import progress
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.checkpoint_google_research import (
    checkpoint_shapes,
    google_research_names,
    load_google_research,
    load_seed_checkpoint,
    seed_names,
)
from components.trainer.checkpoints import load_encoder
from components.trainer.tagger import FusionTagger
from tests.trainer.tiny_taggers import TINY, google_research_weights, random_tagger

# What optimisers and pretraining leave beside the encoder.
UNUSED = {
    "global_step": np.int64(7),
    "bert/pooler/dense/kernel": np.ones([16, 16], np.float32),
    "bert/embeddings/word_embeddings/adam_m": np.ones([30, 16], np.float32),
    "bert/embeddings/word_embeddings/adam_v": np.ones([30, 16], np.float32),
    "output_bias/Adam": np.ones([5], np.float32),
    "output_bias/Adam_1": np.ones([5], np.float32),
    "beta1_power": np.float32(0.9),
    "loss/beta2_power": np.float32(0.9),
    "cls/predictions/transform/dense/bias": np.ones([16], np.float32),
    "beta1_power_1": np.float32(0.9),
    "optimizer/beta2_power_12": np.float32(0.9),
    "bert/embeddings/LayerNorm/beta/AdamW": np.ones([16], np.float32),
    "bert/embeddings/LayerNorm/beta/AdamW_1": np.ones([16], np.float32),
    "bert/embeddings/LayerNorm/beta/AdamWeightDecayOptimizer": np.ones([16], np.float32),
    "bert/embeddings/LayerNorm/beta/Momentum": np.ones([16], np.float32),
    "bert/embeddings/LayerNorm/beta/lamb_m": np.ones([16], np.float32),
    "bert/embeddings/LayerNorm/beta/LAMB/m": np.ones([16], np.float32),
    "LAMBOptimizer/bert/embeddings/LayerNorm/beta/m": np.ones([16], np.float32),
    "training/Adam/bert/encoder/layer_2/intermediate/dense/kernel/v": np.ones([16, 24], np.float32),
    "current_loss_scale": np.float32(32768.0),
    "good_steps": np.int64(7),
    "bad_steps": np.int64(0),
    "optimizer/loss_scale": np.float32(32768.0),
}


def save(prefix: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes a checkpoint of TensorFlow's format V2 with exactly these names, as `tf.compat.v1.train.Saver` does."""
    names = sorted(tensors)
    slices = [""] * len(names)
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=slices, tensors=[tensors[name] for name in names]
    )


def encoder_tensors(tagger: FusionTagger) -> dict[str, np.ndarray]:
    return {name: values for name, values in google_research_weights(tagger).items() if name.startswith("bert/")}


@pytest.mark.parametrize("name", ["bert_model.ckpt", "model.ckpt-1000"])
def test_all_tensors_arrive(tmp_path: pathlib.Path, name: str) -> None:
    source = random_tagger()
    save(tmp_path / name, encoder_tensors(source) | UNUSED)
    (tmp_path / "bert_config.json").write_text("{}", encoding="utf-8")
    tagger = FusionTagger(TINY, tag_count=5)
    head = tagger.classifier.output_weights.numpy()
    load_encoder(tagger, tmp_path)
    for variable_name, values in source.named_variables().items():
        if variable_name.startswith("bert/"):
            np.testing.assert_array_equal(tagger.named_variables()[variable_name], values, err_msg=variable_name)
    np.testing.assert_array_equal(tagger.classifier.output_weights, head)


def test_seed_checkpoint_brings_fusion_and_classifier(tmp_path: pathlib.Path) -> None:
    source = random_tagger()
    save(tmp_path / "model.ckpt", google_research_weights(source) | UNUSED)
    tagger = FusionTagger(TINY, tag_count=5)
    load_seed_checkpoint(tagger, tmp_path / "model.ckpt")
    for name, values in source.named_variables().items():
        np.testing.assert_array_equal(tagger.named_variables()[name], values, err_msg=name)


def test_shapes_tell_the_number_of_tags(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "model.ckpt", google_research_weights(random_tagger()) | UNUSED)
    shapes = checkpoint_shapes(tmp_path / "model.ckpt", seed_names(TINY))
    assert shapes["output_weights"] == (5, 16)
    assert shapes.keys() == seed_names(TINY).keys()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("bert/encoder/layer_0/attention/gate/kernel", id="another architecture"),
        pytest.param("bert/embeddings/LayerNorm/gain", id="beside a tensor of the model"),
        pytest.param("crf/transitions", id="another decoder"),
        pytest.param("crf/output_weights", id="another head"),
    ],
)
def test_what_may_be_of_the_model_is_left_over(tmp_path: pathlib.Path, name: str) -> None:
    tensors = google_research_weights(random_tagger()) | {name: np.ones([5], np.float32)}
    save(tmp_path / "model.ckpt", tensors)
    with pytest.raises(CheckpointError, match=f": 1 left over: {name}$"):
        load_seed_checkpoint(FusionTagger(TINY, tag_count=5), tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("output_bias/ExponentialMovingAverage", id="by TensorFlow 1"),
        pytest.param("MovingAverage/output_bias/average", id="by Keras"),
    ],
)
def test_averages_are_reported_and_not_used(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source = random_tagger()
    save(tmp_path / "model.ckpt", google_research_weights(source) | {name: np.ones([5], np.float32)})
    tagger = FusionTagger(TINY, tag_count=5)
    reported: list[str] = []
    monkeypatch.setattr(progress, "report", reported.append)
    load_seed_checkpoint(tagger, tmp_path / "model.ckpt")
    np.testing.assert_array_equal(tagger.classifier.output_bias, source.classifier.output_bias)
    assert reported == [
        f"{tmp_path / 'model.ckpt'}: averaged weights are in the checkpoint and not used, such as {name}"
    ]


def test_nothing_is_reported_of_what_optimisers_leave(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "model.ckpt", google_research_weights(random_tagger()) | UNUSED)
    reported: list[str] = []
    monkeypatch.setattr(progress, "report", reported.append)
    load_seed_checkpoint(FusionTagger(TINY, tag_count=5), tmp_path / "model.ckpt")
    assert not reported


def test_missing_left_over_and_wrongly_shaped_tensors_are_listed(tmp_path: pathlib.Path) -> None:
    tensors = encoder_tensors(random_tagger())
    del tensors["bert/encoder/layer_0/attention/self/query/kernel"]
    tensors["crf/transitions"] = np.ones([5, 5], np.float32)
    tensors["bert/embeddings/position_embeddings"] = np.ones([512, 16], np.float32)
    save(tmp_path / "bert_model.ckpt", tensors)
    with pytest.raises(CheckpointError) as raised:
        load_google_research(FusionTagger(TINY, tag_count=5), tmp_path)
    assert str(raised.value).endswith(
        "1 missing: bert/encoder/layer_0/attention/self/query/kernel; 1 left over: crf/transitions; "
        "1 of the wrong shape: bert/embeddings/position_embeddings is [512, 16] and not [24, 16]"
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int64])
def test_quantized_weights_are_refused(tmp_path: pathlib.Path, dtype: type) -> None:
    name = "bert/embeddings/LayerNorm/beta"
    tensors = encoder_tensors(random_tagger())
    save(tmp_path / "bert_model.ckpt", tensors | {name: tensors[name].astype(dtype)})
    with pytest.raises(CheckpointError, match=rf"the tensor {name} has the type {dtype.__name__}; expected float16"):
        load_google_research(FusionTagger(TINY, tag_count=5), tmp_path)


def test_a_checkpoint_of_another_size_is_refused_whole(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "bert_model.ckpt", google_research_weights(random_tagger()))
    with pytest.raises(CheckpointError, match=r"8 left over: layer_logit0/bias, .*, layer_logit2/bias and 3 more$"):
        load_google_research(FusionTagger(TINY, tag_count=5), tmp_path)


def test_damaged_data_is_named(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "bert_model.ckpt", encoder_tensors(random_tagger()))
    data = tmp_path / "bert_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"bert_model\.ckpt: the tensor .* cannot be read"):
        load_google_research(FusionTagger(TINY, tag_count=5), tmp_path)


def test_flipped_bits_are_noticed(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "bert_model.ckpt", encoder_tensors(random_tagger()))
    data = tmp_path / "bert_model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bert_model\.ckpt: the tensor .* cannot be read"):
        load_google_research(FusionTagger(TINY, tag_count=5), tmp_path)


def test_damaged_index_is_named(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "bert_model.ckpt", encoder_tensors(random_tagger()))
    (tmp_path / "bert_model.ckpt.index").write_bytes(b"nothing of use")
    with pytest.raises(CheckpointError, match=r"bert_model\.ckpt\.index: cannot be read"):
        load_google_research(FusionTagger(TINY, tag_count=5), tmp_path)


def test_absent_data_is_named(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "bert_model.ckpt", encoder_tensors(random_tagger()))
    (tmp_path / "bert_model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(CheckpointError, match=r"has no data file bert_model\.ckpt\.data-00000-of-00001"):
        load_google_research(FusionTagger(TINY, tag_count=5), tmp_path)


def test_absent_shard_is_named(tmp_path: pathlib.Path) -> None:
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00002"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"data files are missing: model\.ckpt\.data-00001-of-00002"):
        load_seed_checkpoint(FusionTagger(TINY, tag_count=5), tmp_path / "model.ckpt")


def test_absent_checkpoint_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.ckpt\.index: there is no such file"):
        load_seed_checkpoint(FusionTagger(TINY, tag_count=5), tmp_path / "model.ckpt")


def test_another_fusion_cannot_take_a_seed_checkpoint(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "model.ckpt", google_research_weights(random_tagger()))
    with pytest.raises(ValueError, match="layer_logit0/bias"):
        load_seed_checkpoint(FusionTagger(TINY, tag_count=5, fusion="last"), tmp_path / "model.ckpt")


def test_names_cover_the_encoder() -> None:
    assert google_research_names(TINY).keys() == encoder_tensors(random_tagger()).keys()
