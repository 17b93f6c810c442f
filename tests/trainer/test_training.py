from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.trainer import training
from components.trainer.encoder_config import EncoderConfig
from components.trainer.evaluation import evaluator_of
from components.trainer.settings import RecipeSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.training import Corpus, TrainingError, train
from components.trainer.training_data import read_texts, training_windows
from components.trainer.training_state import TrainingState, TrainingStateError


def make_tagger(vocabulary, tags, settings):
    config = EncoderConfig(vocab_size=len(vocabulary), **dataclasses.asdict(settings.random_encoder))
    return TextTagger(
        FusionTagger(config, len(tags), settings.fusion, seed=settings.seed, compute_dtype=settings.compute_dtype),
        cls_id=vocabulary.cls_id,
        sep_id=vocabulary.sep_id,
        window=8,
        overlap=2,
        continuation=None,
    )


@pytest.fixture
def corpus(training_arguments, tiny_tags):
    texts = {
        split: read_texts(files, split=split)
        for split, files in (("train", training_arguments.train_files), ("dev", training_arguments.eval_files))
    }
    return Corpus(training_windows(texts["train"], cls_id=2, sep_id=3, window=8, overlap=2), texts["dev"], tiny_tags)


def weights(text_tagger):
    return {name: variable.numpy() for name, variable in text_tagger.tagger.named_variables().items()}


@pytest.mark.parametrize("fusion", ["dynamic", "static", "last"])
def test_a_tiny_corpus_is_learnt(corpus, tiny_vocabulary, tiny_settings, tmp_path, fusion):
    settings = dataclasses.replace(tiny_settings, fusion=fusion)
    text_tagger = make_tagger(tiny_vocabulary, corpus.tags, settings)
    progress, _ = train(
        text_tagger, corpus, settings, state_directory=str(tmp_path / "state"), log_directory=str(tmp_path / "log")
    )
    assert progress.history[-1].loss < 0.5 * progress.history[0].loss
    assert progress.best.f1 > 0.8
    assert sum(progress.best.layer_weights) == pytest.approx(1.0, abs=1e-4)
    assert list((tmp_path / "log").glob("events.out.tfevents.*"))


def test_the_loss_of_the_seed_trains_too(training_arguments, tiny_vocabulary, tiny_tags, tiny_settings, tmp_path):
    train_texts, dev_texts = (
        read_texts(files, split=split)
        for split, files in (("train", training_arguments.train_files), ("dev", training_arguments.eval_files))
    )
    settings = dataclasses.replace(tiny_settings, loss="seed")
    windows = training_windows(
        train_texts,
        cls_id=2,
        sep_id=3,
        window=8,
        overlap=2,
        tags_count_in_every_window=settings.tags_count_in_every_window,
    )
    text_tagger = make_tagger(tiny_vocabulary, tiny_tags, settings)
    progress, _ = train(
        text_tagger,
        Corpus(windows, dev_texts, tiny_tags),
        settings,
        state_directory=str(tmp_path / "state"),
        log_directory=str(tmp_path / "log"),
    )
    assert progress.history[-1].loss < 0.5 * progress.history[0].loss
    assert progress.best.f1 > 0.8


EVERYTHING = RecipeSettings(
    layerwise_learning_rate_decay=0.8,
    frozen_layers=0,
    gradient_accumulation_steps=2,
    ema_decay=0.9,
)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({}, id="plain"),
        pytest.param({"recipe": EVERYTHING, "precision": "mixed_float16"}, id="every option, float16"),
    ],
)
def test_a_killed_training_resumes_and_ends_as_if_nothing_had_happened(
    corpus, tiny_vocabulary, tiny_settings, training_arguments, tmp_path, changed
):
    directories = {"state_directory": str(tmp_path / "state"), "log_directory": str(tmp_path / "log")}
    # Saves after every step and dies in the middle of the third epoch: no handler runs.
    settings = dataclasses.replace(tiny_settings, checkpoint_minutes=1e-9, epochs=4, **changed)
    script = tmp_path / "killed.py"
    script.write_text(_KILLED, encoding="utf-8")
    arguments = {"files": [training_arguments.train_files, training_arguments.eval_files], "tags": corpus.tags}
    arguments |= directories | {"vocabulary": str(tmp_path / "transform_graph/transform_fn/assets/vocab.txt")}
    arguments["settings"] = dataclasses.asdict(settings)
    root = Path(__file__).parents[2]
    died = subprocess.run(
        [sys.executable, str(script), json.dumps(arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr

    resumed = make_tagger(tiny_vocabulary, corpus.tags, settings)
    progress, state = train(resumed, corpus, settings, **directories)
    whole = make_tagger(tiny_vocabulary, corpus.tags, settings)
    expected, _ = train(
        whole, corpus, settings, state_directory=str(tmp_path / "other"), log_directory=str(tmp_path / "other_log")
    )
    assert [result.f1 for result in progress.history] == [result.f1 for result in expected.history]
    np.testing.assert_allclose(
        [result.loss for result in progress.history], [result.loss for result in expected.history], rtol=1e-5
    )
    for name, values in weights(whole).items():
        # Sums of other threads round otherwise, and Adam adds to it; a step more or less would differ by 5e-3.
        np.testing.assert_allclose(weights(resumed)[name], values, atol=1e-5, err_msg=name)
    state.remove()
    assert not (tmp_path / "state").exists()


_KILLED = """
import json, os, signal, sys
from components.settings import parse_settings
from components.trainer import training
from components.trainer.settings import TrainerSettings
from components.trainer.training import Corpus, train
from components.trainer.training_data import read_texts, training_windows
from components.trainer.training_state import TrainingState
from components.transform.vocabulary import Vocabulary
from test_training import make_tagger

arguments = json.loads(sys.argv[1])
settings = parse_settings(TrainerSettings, arguments["settings"])
texts = [read_texts(files, split="any") for files in arguments["files"]]
corpus = Corpus(
    training_windows(texts[0], cls_id=2, sep_id=3, window=8, overlap=2), texts[1], tuple(arguments["tags"])
)
save = TrainingState.save

def save_and_die(self, progress):
    save(self, progress)
    if progress.epoch == 2 and progress.batch:
        os.kill(os.getpid(), signal.SIGKILL)

TrainingState.save = save_and_die
tagger = make_tagger(Vocabulary.from_file(arguments["vocabulary"]), corpus.tags, settings)
train(tagger, corpus, settings, state_directory=arguments["state_directory"], log_directory=arguments["log_directory"])
"""


def test_the_average_is_what_is_scored_kept_and_exported(corpus, tiny_vocabulary, tiny_settings, tmp_path, monkeypatch):
    settings = dataclasses.replace(tiny_settings, epochs=1, recipe=RecipeSettings(ema_decay=0.9))
    text_tagger = make_tagger(tiny_vocabulary, corpus.tags, settings)
    scored = {}

    def evaluator_that_remembers(tagger, *arguments):
        evaluate = evaluator_of(tagger, *arguments)
        return lambda dev: (scored.update(weights(text_tagger)), evaluate(dev))[1]

    monkeypatch.setattr(training, "evaluator_of", evaluator_that_remembers)
    directory = tmp_path / "state"
    train(text_tagger, corpus, settings, state_directory=str(directory), log_directory=str(tmp_path / "log"))
    unaveraged = make_tagger(tiny_vocabulary, corpus.tags, settings)
    saved = tf.train.latest_checkpoint(str(directory))
    tf.train.Checkpoint(tagger=unaveraged.tagger).read(saved).expect_partial()
    assert np.abs(scored["output_bias"] - weights(unaveraged)["output_bias"]).max() > 1e-4
    for name, values in weights(text_tagger).items():
        np.testing.assert_array_equal(values, scored[name], err_msg=name)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_tiny_corpus_is_learnt_in_mixed_precision(corpus, tiny_vocabulary, tiny_settings, tmp_path, precision):
    settings = dataclasses.replace(tiny_settings, precision=precision)
    text_tagger = make_tagger(tiny_vocabulary, corpus.tags, settings)
    progress, _ = train(
        text_tagger, corpus, settings, state_directory=str(tmp_path / "state"), log_directory=str(tmp_path / "log")
    )
    assert progress.best.f1 > 0.8
    assert {variable.dtype for variable in text_tagger.trainable_variables} == {tf.float32}


def test_two_runs_are_alike(corpus, tiny_vocabulary, tiny_settings, tmp_path):
    settings = dataclasses.replace(tiny_settings, epochs=2)
    losses = []
    for run in ("first", "second"):
        text_tagger = make_tagger(tiny_vocabulary, corpus.tags, settings)
        progress, _ = train(
            text_tagger, corpus, settings, state_directory=str(tmp_path / run), log_directory=str(tmp_path / "log")
        )
        losses.append([result.loss for result in progress.history])
    assert losses[0] == losses[1]


def test_early_stopping(corpus, tiny_vocabulary, tiny_settings, tmp_path):
    # Next to no learning: the F1 stays where the first epoch leaves it.
    settings = dataclasses.replace(tiny_settings, learning_rate=1e-12, early_stopping_epochs=2)
    text_tagger = make_tagger(tiny_vocabulary, corpus.tags, settings)
    progress, _ = train(
        text_tagger, corpus, settings, state_directory=str(tmp_path / "state"), log_directory=str(tmp_path / "log")
    )
    assert len(progress.history) == 3


@pytest.mark.parametrize(
    ("precision", "remedy"),
    [
        pytest.param("float32", r"lower learning_rate \(now 0.005\)$", id="float32"),
        pytest.param("mixed_bfloat16", r"lower learning_rate \(now 0.005\)$", id="bfloat16"),
        # No scale of the loss mends a loss that is no number.
        pytest.param("mixed_float16", r"lower learning_rate \(now 0.005\) or train in mixed_bfloat16$", id="float16"),
    ],
)
def test_a_loss_that_is_no_number_stops_the_training(
    corpus, tiny_vocabulary, tiny_settings, tmp_path, precision, remedy
):
    settings = dataclasses.replace(tiny_settings, precision=precision)
    text_tagger = make_tagger(tiny_vocabulary, corpus.tags, settings)
    bias = text_tagger.tagger.named_variables()["output_bias"]
    bias.assign(tf.fill(bias.shape, np.nan))
    with pytest.raises(TrainingError, match=f"epoch 1, batch 1: the loss is nan .*{remedy}"):
        train(
            text_tagger, corpus, settings, state_directory=str(tmp_path / "state"), log_directory=str(tmp_path / "log")
        )


def test_gradients_that_leave_float16_at_any_scale_stop_the_training(
    corpus, tiny_vocabulary, tiny_settings, tmp_path, monkeypatch
):
    steps = []

    def step_of_infinite_gradients(tagger, optimizer, *arguments, **options):
        def step(batches):
            gradients = [tf.fill(variable.shape, np.inf) for variable in optimizer.trained]
            steps.append(float(optimizer.apply(gradients)))
            return 1.0, 1.0, steps[-1]

        return step

    monkeypatch.setattr(training, "train_step", step_of_infinite_gradients)
    settings = dataclasses.replace(tiny_settings, precision="mixed_float16")
    with pytest.raises(TrainingError, match=r"the loss is 1.0 and the norm of its gradient (inf|nan); lower"):
        train(
            make_tagger(tiny_vocabulary, corpus.tags, settings),
            corpus,
            settings,
            state_directory=str(tmp_path / "state"),
            log_directory=str(tmp_path / "log"),
        )
    assert len(steps) == 16  # 2^15 is halved 16 times before it is below 1


def test_a_damaged_state_is_named_with_the_remedy(corpus, tiny_vocabulary, tiny_settings, tmp_path):
    settings = dataclasses.replace(tiny_settings, epochs=1)
    directories = {"state_directory": str(tmp_path / "state"), "log_directory": str(tmp_path / "log")}
    train(make_tagger(tiny_vocabulary, corpus.tags, settings), corpus, settings, **directories)
    for path in (tmp_path / "state").glob("state-*.data-*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingStateError, match=r"state: the saved state .* cannot be read .* remove the folder"):
        train(make_tagger(tiny_vocabulary, corpus.tags, settings), corpus, settings, **directories)


def test_only_the_best_weights_stay_on_disk(corpus, tiny_vocabulary, tiny_settings, tmp_path):
    text_tagger = make_tagger(tiny_vocabulary, corpus.tags, tiny_settings)
    progress, state = train(
        text_tagger, corpus, tiny_settings, state_directory=str(tmp_path / "state"), log_directory=str(tmp_path / "log")
    )
    assert {path.name.split(".")[0] for path in (tmp_path / "state").glob("best-*")} == {
        f"best-{progress.best.epoch:04d}"
    }
    assert isinstance(state, TrainingState)
