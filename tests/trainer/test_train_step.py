"""One training step: of several batches, on several replicas, above frozen layers."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components.settings import SettingsError
from components.trainer.loss import token_loss
from components.trainer.optimizer import AdamW, Schedule
from components.trainer.settings import RecipeSettings, TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.trained_weights import trained_weights
from components.trainer.training import train_step
from components.trainer.training_data import TrainingBatch
from tests.trainer.mirrored_step import CONFIG, make_batches, take_steps

ROOT = Path(__file__).parents[2]


def merged(batches):
    """One batch of the rows of all."""
    names = ("token_ids", "row_lengths", "tag_ids")
    return TrainingBatch(*(np.concatenate([getattr(batch, name) for batch in batches]) for name in names))


def grouped(group):
    batches = make_batches()
    return [batches[first : first + group] for first in range(0, len(batches), group)]


def assert_alike(received, expected):
    assert received.keys() == expected.keys()
    for name, values in expected.items():
        # Adam divides by the root of the squares, so a gradient that is nothing but rounding (that of the keys' biases)
        # shows in the weights, by a hundredth of the learning rate at most.
        tolerance = 1e-5 if name in ("losses", "weights", "norms") else 1e-4
        np.testing.assert_allclose(received[name], values, atol=tolerance, rtol=1e-5, err_msg=name)


def test_batches_of_one_step_are_one_large_batch():
    """The last step has one batch only; a mean of means would differ, as the batches differ in their tokens."""
    expected = take_steps([[merged(group)] for group in grouped(2)])
    assert_alike(take_steps(grouped(2), accumulation_steps=2), expected)


def test_two_replicas_are_one_on_the_merged_batch(tmp_path):
    """Two replicas with two batches each; the last step leaves one replica without a batch."""
    expected = take_steps([[merged(group)] for group in grouped(4)])
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("mirrored_step.py")), str(tmp_path / "result.npz"), "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert_alike(dict(np.load(tmp_path / "result.npz")), expected)


def test_a_batch_without_tags_changes_nothing():
    batch = TrainingBatch(np.array([2, 3], np.int32), np.array([2], np.int32), np.array([-1, -1], np.int32))
    result = take_steps([[batch]])
    assert (result["losses"], result["weights"], result["norms"]) == (0.0, 0.0, 0.0)
    assert all(np.isfinite(values).all() for values in result.values())


def test_batches_of_one_step_have_dropout_of_their_own():
    config = dataclasses.replace(CONFIG, hidden_dropout=0.5)
    batch = make_batches()[0]
    once, twice = (take_steps([[batch] * count], accumulation_steps=2, config=config)["losses"][0] for count in (1, 2))
    assert abs(twice - 2 * once) > 1e-2


@pytest.mark.parametrize(
    ("frozen_layers", "frozen_names", "products"),
    [
        # Forward each of 3 layers has 4 products and one of the fusion, and the classifier has one: 16. Backward
        # there are as many for kernels and for inputs, less what is frozen and the inputs of the lowest that is not.
        pytest.param(0, ("embeddings",), 16 + (16 - 0) + (16 - 1), id="embeddings"),
        pytest.param(2, ("embeddings", "layer_0", "layer_1"), 16 + (16 - 8) + (16 - 8 - 1 - 2), id="two layers"),
        pytest.param(3, ("bert/",), 16 + (16 - 12) + (16 - 12 - 3), id="the whole encoder"),
    ],
)
def test_frozen_weights_stay_and_no_gradient_is_computed_below(frozen_layers, frozen_names, products):
    settings = TrainerSettings(recipe=RecipeSettings(frozen_layers=frozen_layers), learning_rate=1e-2)
    tagger = FusionTagger(dataclasses.replace(CONFIG, num_layers=3), tag_count=5, seed=3)
    before = {name: variable.numpy() for name, variable in tagger.named_variables().items()}
    weights = trained_weights(tagger, settings)
    optimizer = AdamW(
        [weight.variable for weight in weights],
        peaks=[weight.peak for weight in weights],
        decayed=[weight.decayed for weight in weights],
        schedule=Schedule(3, 1),
        weight_decay=0.1,
        clip_norm=1.0,
    )
    graphs = []

    def loss(logits, token_ids, row_lengths, tag_ids):
        graphs.append(logits.graph)
        return token_loss(logits, tag_ids)

    train_step(tagger, optimizer, loss, seed=1)(make_batches()[:1])
    trained = {name for name, values in before.items() if not np.array_equal(tagger.named_variables()[name], values)}
    assert trained == {name for name in before if not any(part in name for part in frozen_names)}
    assert len(optimizer.means) == len(trained)
    assert sum(operation.type == "MatMul" for operation in graphs[0].get_operations()) == products


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        pytest.param({}, {"embeddings": 1.0, "layer_0": 1.0, "layer_2": 1.0, "output_weights": 10.0}, id="plain"),
        pytest.param(
            {"layerwise_learning_rate_decay": 0.5},
            {
                "embeddings": 0.125,
                "layer_0": 0.25,
                "layer_1": 0.5,
                "layer_2": 1.0,
                "layer_logit": 10.0,
                "output_": 10.0,
            },
            id="decay",
        ),
        pytest.param(
            {"layerwise_learning_rate_decay": 0.5, "frozen_layers": 1},
            {"embeddings": None, "layer_0": None, "layer_1": 0.5, "layer_2": 1.0, "layer_logit": 10.0},
            id="decay above frozen layers",
        ),
    ],
)
def test_learning_rates_by_layer(recipe, expected):
    """In units of the peak; None is not trained."""
    settings = TrainerSettings(encoder="pretrained", learning_rate=1e-3, recipe=RecipeSettings(**recipe))
    tagger = FusionTagger(dataclasses.replace(CONFIG, num_layers=3), tag_count=5)
    rates = {id(weight.variable): weight.peak / 1e-3 for weight in trained_weights(tagger, settings)}
    for part, rate in expected.items():
        found = [rates.get(id(variable)) for name, variable in tagger.named_variables().items() if part in name]
        assert found
        assert found == [rate and pytest.approx(rate)] * len(found), part


def test_more_frozen_layers_than_the_encoder_has():
    tagger = FusionTagger(CONFIG, tag_count=5)
    settings = TrainerSettings(recipe=RecipeSettings(frozen_layers=3))
    with pytest.raises(
        SettingsError, match=r"trainer\.recipe\.frozen_layers: expected at most 2, the encoder's layers"
    ):
        trained_weights(tagger, settings)
