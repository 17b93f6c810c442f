from __future__ import annotations

import pytest

from components.settings import SettingsError, parse_settings, settings_to_json
from components.trainer.settings import RecipeSettings, TrainerSettings


def test_settings_survive_json():
    settings = TrainerSettings(encoder="folder", window=128, whole_words=False, recipe=RecipeSettings(frozen_layers=2))
    assert parse_settings(TrainerSettings, settings_to_json(settings), "trainer") == settings


@pytest.mark.parametrize(
    ("values", "encoder_rate", "head_rate"),
    [
        pytest.param({}, 5e-4, 5e-4, id="random weights"),
        pytest.param({"encoder": "folder"}, 5e-5, 5e-4, id="pretrained"),
        pytest.param({"encoder": "folder", "learning_rate": 1e-5}, 1e-5, 1e-4, id="pretrained, given"),
        pytest.param({"learning_rate": 1e-3, "head_learning_rate": 2e-3}, 1e-3, 2e-3, id="both given"),
        pytest.param({"warm_start": "7"}, 5e-5, 5e-5, id="served version, head and all"),
        pytest.param({"warm_start": "7", "encoder": "folder"}, 5e-5, 5e-5, id="served version of a pretrained encoder"),
        pytest.param({"warm_start": "7", "learning_rate": 1e-5}, 1e-5, 1e-5, id="served version, given"),
        pytest.param({"warm_start": "7", "head_learning_rate": 2e-4}, 5e-5, 2e-4, id="served version, head given"),
    ],
)
def test_learning_rates(values, encoder_rate, head_rate):
    settings = TrainerSettings(**values)
    assert settings.peak_learning_rate == encoder_rate
    assert settings.peak_head_learning_rate == pytest.approx(head_rate)


@pytest.mark.parametrize(
    ("values", "max_positions", "expected"),
    [
        pytest.param({}, 512, (512, 128), id="the encoder's positions"),
        pytest.param({}, 2048, (512, 128), id="at most 512"),
        pytest.param({"batch_tokens": 64}, 32, (32, 8), id="few positions"),
        pytest.param({"window": 100, "window_overlap": 0}, 512, (100, 0), id="given"),
        pytest.param({"loss": "seed"}, 512, (512, 128), id="the seed's loss"),
        pytest.param({"loss": "seed", "window_overlap": 8}, 512, (512, 8), id="the seed's loss, given"),
    ],
)
def test_window_size(values, max_positions, expected):
    assert TrainerSettings(**values).window_size(max_positions) == expected


def test_a_window_larger_than_the_encoder_is_refused():
    with pytest.raises(SettingsError, match="window: expected at most 128, the encoder's positions; received 256"):
        TrainerSettings(window=256).window_size(128)


def test_a_batch_smaller_than_a_window_is_refused():
    with pytest.raises(SettingsError, match="batch_tokens: expected at least 512"):
        TrainerSettings(batch_tokens=100).window_size(512)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"epochs": 0}, "epochs: expected a positive number; received 0", id="no epochs"),
        pytest.param({"learning_rate": 0.0}, "learning_rate: expected a number above 0", id="no rate"),
        pytest.param({"learning_rate": 5.0}, "learning_rate: expected a number above 0 and at most 1", id="rate 5"),
        pytest.param({"warmup_fraction": 1.5}, "warmup_fraction: expected 0 to 1", id="warm-up"),
        pytest.param({"weight_decay": -0.1}, "weight_decay", id="decay"),
        pytest.param({"gradient_clip_norm": 0.0}, "gradient_clip_norm", id="clip"),
        pytest.param({"dropout": 1.0}, "dropout: expected at least 0 and below 1", id="all dropped"),
        pytest.param({"seed": -1}, "seed: expected 0 to 2147483647", id="seed"),
        pytest.param({"window": 3}, "window: expected at least 4 tokens", id="window without room"),
        pytest.param({"window": 64, "window_overlap": 62}, "window_overlap: expected less than 62", id="overlap"),
        pytest.param({"window": 64, "batch_tokens": 63}, "batch_tokens: expected at least the 64", id="small batch"),
        pytest.param({"fusion": "mean"}, "trainer.fusion: expected one of 'dynamic', 'static', 'last'", id="fusion"),
        pytest.param({"encoder": ""}, "encoder: expected a folder or null", id="empty folder"),
        pytest.param({"early_stopping_epochs": 0}, "early_stopping_epochs", id="patience"),
        pytest.param({"checkpoint_minutes": 0}, "checkpoint_minutes", id="saving all the time"),
        pytest.param(
            {"random_encoder": {"hidden_size": 30, "num_heads": 4}},
            r"random_encoder.hidden_size: expected a multiple of num_heads \(4\); received 30",
            id="heads",
        ),
        pytest.param({"random_encoder": {"num_layers": 0}}, "random_encoder.num_layers", id="no layers"),
        pytest.param(
            {"recipe": {"layerwise_learning_rate_decay": 1.1}}, "recipe.layerwise_learning_rate_decay", id="layers"
        ),
        pytest.param(
            {"annotated_by_whitespace": True, "decoder": "crf"}, "whitespace: expected false or", id="sequences"
        ),
        pytest.param(
            {"annotated_by_whitespace": True, "loss": "seed"}, "whitespace: expected false or", id="positions"
        ),
        pytest.param({"recipe": {"frozen_layers": -1}}, "recipe.frozen_layers: expected 0 or more", id="frozen"),
        pytest.param(
            {"recipe": {"gradient_accumulation_steps": 0}}, "recipe.gradient_accumulation_steps", id="no batches"
        ),
        pytest.param({"recipe": {"ema_decay": 1.0}}, "recipe.ema_decay: expected at least 0 and below 1", id="average"),
        pytest.param(
            {"precision": "float16"}, "trainer.precision: expected one of 'float32', 'mixed_b", id="precision"
        ),
        pytest.param({"distribution": "gpus"}, "trainer.distribution: expected one of 'none', 'mirrored'", id="gpus"),
        pytest.param({"epoch": 3}, "trainer.epoch: unknown setting. Did you mean 'epochs'", id="misspelt"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        parse_settings(TrainerSettings, values, "trainer")
