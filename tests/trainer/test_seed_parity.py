"""The tagger against the seed's own computation, on random weights that the seed's code left as a TF1 checkpoint."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.checkpoint_google_research import google_research_names, load_seed_checkpoint, seed_names
from components.trainer.encoder_config import EncoderConfig
from components.trainer.loss import NO_TAG, pad_rows, token_loss
from components.trainer.packing import plan_rows
from components.trainer.tagger import FusionTagger
from components.trainer.weights import Destination
from tests.trainer.seed_sizes import BASE, SLOW, SMALL, Size

REFERENCE = pathlib.Path(__file__).with_name("seed_reference.py")
TAG_COUNT = 11  # as in the seed's comment
SIZES = [pytest.param(SMALL, id="small"), pytest.param(BASE, id="bert_base", marks=SLOW)]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The seed's numbers, and our tagger with the seed's weights."""

    size: Size
    token_ids: np.ndarray
    labels: np.ndarray
    seed: dict[str, np.ndarray]
    tagger: FusionTagger
    prefix: str

    @property
    def real(self) -> np.ndarray:
        lengths = np.array(self.size.row_lengths)
        return np.arange(lengths.max()) < lengths[:, np.newaxis]


@pytest.fixture(scope="module", params=SIZES)
def comparison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    size: Size = request.param
    folder = tmp_path_factory.mktemp("seed")
    random = np.random.default_rng(5)
    shape = len(size.row_lengths), max(size.row_lengths)
    real = np.arange(shape[1]) < np.array(size.row_lengths)[:, np.newaxis]
    token_ids = np.where(real, random.integers(1, size.config["vocab_size"], shape), 0)
    labels = random.integers(0, TAG_COUNT, shape)
    (folder / "bert_config.json").write_text(json.dumps(size.config), encoding="utf-8")
    (folder / "request.json").write_text(
        json.dumps(
            {
                "config": size.config,
                "tag_count": TAG_COUNT,
                "token_ids": token_ids.tolist(),
                "input_mask": real.astype(int).tolist(),
                "labels": labels.tolist(),
                "seed": 17,
            }
        ),
        encoding="utf-8",
    )
    result, prefix = folder / "result.npz", folder / "model.ckpt-7"
    subprocess.run([sys.executable, str(REFERENCE), str(folder / "request.json"), str(result), str(prefix)], check=True)
    tagger = FusionTagger(EncoderConfig.from_google_research(folder / "bert_config.json"), TAG_COUNT)
    load_seed_checkpoint(tagger, prefix)
    return Comparison(size, token_ids, labels, dict(np.load(result)), tagger, str(prefix))


def test_packed_rows_give_the_seeds_numbers_on_real_tokens(comparison: Comparison) -> None:
    token_ids = tf.constant(comparison.token_ids[comparison.real], tf.int32)
    row_lengths = tf.constant(comparison.size.row_lengths, tf.int32)
    output = comparison.tagger(token_ids, row_lengths)
    plan = plan_rows(row_lengths, num_heads=comparison.tagger.encoder_config.num_heads)
    fused = comparison.tagger.fusion(comparison.tagger.encoder(token_ids, plan))
    ours = {"logits": output.logits, "layer_dist": output.layer_weights, "fused": fused.hidden}
    for name, values in ours.items():
        difference = np.abs(values.numpy() - comparison.seed[name][comparison.real]).max()
        print(f"{name}: largest difference {difference:.1e}")
        assert difference < comparison.size.tolerance, name


def test_loss_over_all_positions_and_its_gradients_are_the_seeds(comparison: Comparison) -> None:
    rows, length = comparison.token_ids.shape
    variables = comparison.tagger.named_variables()
    with tf.GradientTape() as tape:
        output = comparison.tagger(
            tf.constant(comparison.token_ids.reshape(-1), tf.int32),
            tf.fill([rows], length),
            attended_lengths=tf.constant(comparison.size.row_lengths, tf.int32),
        )
        labels = tf.constant(comparison.labels.reshape(-1), tf.int32)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, output.logits))
    gradients = dict(zip(variables, map(dense, tape.gradient(loss, list(variables.values()))), strict=True))

    seed_logits = comparison.seed["logits"].reshape(-1, TAG_COUNT)
    assert np.abs(output.logits.numpy() - seed_logits).max() < comparison.size.tolerance
    assert abs(float(loss) - comparison.seed["loss"]) < 1e-5
    names = seed_names(comparison.tagger.encoder_config)
    assert {name.removeprefix("gradient/") for name in comparison.seed if name.startswith("gradient/")} == names.keys()
    worst = 0.0
    for name, destination in names.items():
        ours = as_stored(gradients[destination.variable], destination)
        theirs = comparison.seed[f"gradient/{name}"]
        # Relative to the largest slope of the tensor: single elements pass through 0. The gradient of a key bias is 0
        # but for rounding, because softmax does not see what is added to all keys alike.
        scale = max(np.abs(theirs).max(), 1e-4)
        worst = max(worst, np.abs(ours - theirs).max() / scale)
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-3, err_msg=name)
    print(f"loss: difference {abs(float(loss) - comparison.seed['loss']):.1e}; gradients: largest {worst:.1e} of scale")


def test_the_loss_of_packed_rows_padded_for_it_is_the_seeds(comparison: Comparison) -> None:
    """The Trainer's option `loss: seed`, against the seed's logits, with O at all positions that have no tag."""
    lengths = np.array(comparison.size.row_lengths)
    has_tag = comparison.real & (np.arange(lengths.max()) > 0) & (np.arange(lengths.max()) < lengths[:, np.newaxis] - 1)
    tag_ids = np.where(has_tag, comparison.labels, NO_TAG)[comparison.real]
    rows = pad_rows(
        tf.constant(comparison.token_ids[comparison.real], tf.int32),
        tf.constant(lengths, tf.int32),
        tf.constant(tag_ids, tf.int32),
        length=int(lengths.max()),
    )
    logits = comparison.tagger(rows.token_ids, rows.row_lengths, attended_lengths=rows.attended_lengths).logits
    loss_sum, positions = token_loss(logits, rows.tag_ids)

    seed = comparison.seed["logits"]
    log_probabilities = seed - np.log(np.exp(seed).sum(axis=-1, keepdims=True))
    labels = np.where(has_tag, comparison.labels, 0)
    expected = -np.take_along_axis(log_probabilities, labels[..., np.newaxis], axis=-1).mean()
    assert int(positions) == comparison.real.size
    assert abs(float(loss_sum) / int(positions) - expected) < 1e-5


def test_every_tensor_of_the_model_reaches_its_weight(comparison: Comparison) -> None:
    reader = tf.train.load_checkpoint(comparison.prefix)
    variables = comparison.tagger.named_variables()
    for name, destination in seed_names(comparison.tagger.encoder_config).items():
        ours = as_stored(variables[destination.variable].numpy(), destination)
        np.testing.assert_array_equal(ours, reader.get_tensor(name), err_msg=name)


def test_the_comparison_sees_wrong_ports(comparison: Comparison) -> None:
    """Each wrong port differs from the seed by far more than the tolerance, so that the tests above mean something."""
    token_ids = tf.constant(comparison.token_ids[comparison.real], tf.int32)
    row_lengths = tf.constant(comparison.size.row_lengths, tf.int32)
    seed_logits = comparison.seed["logits"][comparison.real]
    exact_gelu = dataclasses.replace(comparison.tagger.encoder_config, hidden_activation="gelu")
    wrong_epsilon = dataclasses.replace(comparison.tagger.encoder_config, layer_norm_epsilon=1e-3)
    for config in (exact_gelu, wrong_epsilon):
        tagger = FusionTagger(config, TAG_COUNT)
        load_seed_checkpoint(tagger, comparison.prefix)
        difference = np.abs(tagger(token_ids, row_lengths).logits.numpy() - seed_logits).max()
        assert difference > 2 * comparison.size.tolerance
    plan = plan_rows(row_lengths, num_heads=comparison.tagger.encoder_config.num_heads)
    layers = comparison.tagger.encoder(token_ids, plan)
    reversed_layers = comparison.tagger.classifier(comparison.tagger.fusion(layers[::-1]).hidden)
    assert np.abs(reversed_layers.numpy() - seed_logits).max() > 0.1


def test_the_table_of_names_covers_the_encoder_of_the_checkpoint(comparison: Comparison) -> None:
    stored = tf.train.load_checkpoint(comparison.prefix).get_variable_to_shape_map()
    encoder = {name for name in stored if name.startswith("bert/") and not name.startswith("bert/pooler/")}
    assert google_research_names(comparison.tagger.encoder_config).keys() == encoder


def as_stored(values: np.ndarray, destination: Destination) -> np.ndarray:
    """Returns what a tensor of the checkpoint fills of one of our weights or of its gradient, laid out as there."""
    part = np.split(values, destination.part_count, axis=-1)[destination.part or 0]
    return part.T if destination.transpose else part


def dense(gradient: tf.Tensor | tf.IndexedSlices) -> np.ndarray:
    return tf.convert_to_tensor(gradient).numpy()
