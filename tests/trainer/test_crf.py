"""The loss of the conditional random field, against all tag sequences written out; training, export and resuming."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from components.settings import SettingsError
from components.trainer.crf import sequence_loss
from components.trainer.encoder_config import EncoderConfig
from components.trainer.label_scheme import bio_scheme
from components.trainer.loss import NO_TAG
from components.trainer.run import run_fn
from components.trainer.settings import TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.training import Corpus, train
from components.trainer.training_data import read_texts, training_windows
from components.trainer.training_state import TrainingState
from tests.trainer.tiny_taggers import TINY

SCHEME = bio_scheme(5)
K = 5


def written_out(logits, rows, transitions, continues):
    """Returns the loss over rows of tags, each with its [CLS] and [SEP], from all legal sequences."""
    log_probabilities = logits - logsumexp(logits, axis=1, keepdims=True)
    total, first = 0.0, 0
    for row in rows:
        places = [first + place for place, tag in enumerate(row) if tag >= 0]
        units = []  # the places of each unit
        for place in places:
            if units and continues[place]:
                units[-1].append(place)
            else:
                units.append([place])
        before = K if row[1:2] and row[1] >= 0 else None
        behind = K if row[-2] >= 0 else None
        gold = [row[unit[0] - first] for unit in units]
        weights = {}
        for tags in itertools.product(range(K), repeat=len(units)):
            steps = list(itertools.pairwise(([before] if before else []) + list(tags) + ([behind] if behind else [])))
            if before is None and behind is None and not tags:
                steps = []
            if tags and not all(SCHEME.allowed[step] for step in steps):
                continue
            weights[tags] = sum(transitions[step] for step in steps if step != (K, K)) + sum(
                log_probabilities[unit[0], tag]
                + sum(log_probabilities[place, SCHEME.continued[tag]] for place in unit[1:])
                for unit, tag in zip(units, tags, strict=True)
            )
        total += logsumexp(list(weights.values())) - weights[tuple(gold)]
        first += len(row)
    return total


LEGAL_ROWS = [
    pytest.param([[NO_TAG, 1, 2, 0, NO_TAG]], id="one text"),
    pytest.param([[NO_TAG, 0, 3, NO_TAG], [NO_TAG, 3, 4, 4, 1, NO_TAG]], id="two texts"),
    pytest.param([[NO_TAG, 1, NO_TAG, NO_TAG], [NO_TAG, NO_TAG, 2, 0, NO_TAG]], id="an entity over two windows"),
    pytest.param([[NO_TAG, NO_TAG, NO_TAG, 2, 2, NO_TAG, NO_TAG]], id="a window inside a text"),
    pytest.param([[NO_TAG, 0, NO_TAG], [NO_TAG, 0, NO_TAG]], id="single tokens"),
]


@pytest.mark.parametrize("rows", LEGAL_ROWS)
@pytest.mark.parametrize("whole_words", [False, True])
def test_the_loss_is_the_negative_log_likelihood(rows, whole_words):
    generator = np.random.default_rng(1)
    flat = np.array([tag for row in rows for tag in row], np.int32)
    logits = 2 * generator.normal(size=(len(flat), K)).astype(np.float32)
    transitions = generator.normal(size=(K + 1, K + 1)).astype(np.float32)
    # Words of two pieces where the tags go on inside.
    continues = (flat > 0) & (flat % 2 == 0) if whole_words else np.zeros(len(flat), bool)
    arguments = (tf.constant([len(row) for row in rows]), tf.constant(flat), tf.constant(transitions), SCHEME)
    loss, tokens = sequence_loss(tf.constant(logits), *arguments, tf.constant(continues) if whole_words else None)
    assert int(tokens) == np.count_nonzero(flat >= 0)
    assert float(loss) == pytest.approx(written_out(logits, rows, transitions, continues), rel=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    generator = np.random.default_rng(2)
    rows = [[NO_TAG, *generator.choice([0, 1, 3], length).tolist(), NO_TAG] for length in (3, 40, 1)]
    rows.append([NO_TAG, NO_TAG, 2, 1, 2, NO_TAG, NO_TAG])
    flat = np.array([tag for row in rows for tag in row], np.int32)
    lengths = tf.constant([len(row) for row in rows])
    logits = generator.normal(size=(len(flat), K)).astype(np.float32)
    transitions = generator.normal(size=(K + 1, K + 1)).astype(np.float32)

    @tf.function(autograph=False)
    def loss_of(logits, transitions):
        return sequence_loss(logits, lengths, tf.constant(flat), transitions, SCHEME)[0]

    variables = [tf.constant(logits), tf.constant(transitions)]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        loss = loss_of(*variables)
    gradients = [gradient.numpy() for gradient in tape.gradient(loss, variables)]
    step = 0.05
    for which, values in enumerate((logits, transitions)):
        places = list(np.ndindex(values.shape))
        for place in [places[i] for i in generator.choice(len(places), 12, replace=False)]:
            moved = []
            for sign in (1, -1):
                changed = [logits.copy(), transitions.copy()]
                changed[which][place] += sign * step
                moved.append(float(loss_of(*map(tf.constant, changed))))
            assert gradients[which][place] == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=3e-3)


@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=5), seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_the_loss_of_a_batch_is_the_sum_over_its_texts(lengths, seed):
    generator = np.random.default_rng(seed)
    rows = [[NO_TAG, *generator.choice([0, 1, 3], length).tolist(), NO_TAG] for length in lengths]
    logits = [generator.normal(size=(len(row), K)).astype(np.float32) for row in rows]
    transitions = tf.constant(generator.normal(size=(K + 1, K + 1)).astype(np.float32))

    def loss_of(rows, logits):
        flat = tf.constant([tag for row in rows for tag in row])
        return float(
            sequence_loss(np.concatenate(logits), tf.constant([*map(len, rows)]), flat, transitions, SCHEME)[0]
        )

    alone = sum(loss_of([row], [each]) for row, each in zip(rows, logits, strict=True))
    assert loss_of(rows, logits) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("row_lengths", [[], [2]])
def test_texts_without_tokens_have_no_loss(row_lengths):
    logits = tf.zeros([sum(row_lengths), K])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        tags = tf.fill([sum(row_lengths)], NO_TAG)
        loss, weight = sequence_loss(logits, tf.constant(row_lengths, tf.int32), tags, tf.ones([K + 1, K + 1]), SCHEME)
    assert (float(loss), float(weight)) == (0.0, 0.0)
    assert not tape.gradient(loss, logits).numpy().any()


def test_an_entity_that_begins_inside_a_word_begins_with_the_next_one():
    # Pieces O B-x of a word and then I-x: over whole words the gold tags are O, I-x, which is no legal sequence.
    flat = tf.constant([NO_TAG, 0, 1, 2, NO_TAG])
    mended = tf.constant([NO_TAG, 0, 0, 1, NO_TAG])
    logits = tf.constant(np.random.default_rng(3).normal(size=(5, K)).astype(np.float32))
    continues = tf.constant([False, False, True, False, False])
    losses = [
        float(sequence_loss(logits, tf.constant([5]), tags, tf.zeros([K + 1, K + 1]), SCHEME, continues)[0])
        for tags in (flat, mended)
    ]
    assert losses[0] == losses[1] > 0


def test_a_crf_trains_exports_and_is_decoded_with_its_transitions(training_arguments, tiny_tags):
    training_arguments.custom_config |= {"decoder": "crf", "epochs": 12, "calibration": "none"}
    run_fn(training_arguments)
    model = tf.saved_model.load(training_arguments.serving_model_dir)
    answer = model.signatures["serving_default"](text=tf.constant(["张三在北京工作。"]))
    assert answer["entity_start"].numpy().tolist() == [[0, 3]]
    assert answer["entity_end"].numpy().tolist() == [[2, 5]]
    transitions = model.text_tagger.tagger.transitions.numpy()
    assert transitions.shape == (len(tiny_tags) + 1,) * 2


def test_a_stopped_training_goes_on_with_its_transitions(
    training_arguments, tiny_settings, tiny_vocabulary, tiny_tags, tmp_path, monkeypatch
):
    texts, dev = (
        read_texts(files, split="") for files in (training_arguments.train_files, training_arguments.eval_files)
    )
    corpus = Corpus(training_windows(texts, cls_id=2, sep_id=3, window=8, overlap=2), dev, tiny_tags)
    settings = dataclasses.replace(tiny_settings, decoder="crf", epochs=3)

    def run(folder: str) -> np.ndarray:
        config = EncoderConfig(vocab_size=len(tiny_vocabulary), **dataclasses.asdict(settings.random_encoder))
        tagger = FusionTagger(config, K, seed=1, transitions=np.zeros((K + 1, K + 1), np.float32))
        text_tagger = TextTagger(tagger, cls_id=2, sep_id=3, window=8, overlap=2, continuation=None)
        train(
            text_tagger, corpus, settings, state_directory=str(tmp_path / folder), log_directory=str(tmp_path / "log")
        )
        return tagger.transitions.numpy()

    whole = run("whole")
    save = TrainingState.save

    def save_and_stop(self, progress):
        save(self, progress)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    np.testing.assert_allclose(run("stopped"), whole, atol=1e-5)
    assert np.abs(whole).max() > 1e-3


def test_transitions_are_weights_of_the_tagger():
    start = np.zeros((6, 6), np.float32)
    tagger = FusionTagger(TINY, 5, transitions=start)
    assert "transitions" in tagger.named_variables()
    with pytest.raises(ValueError, match="the tagger has trained ones"):
        TextTagger(tagger, cls_id=2, sep_id=3, window=8, overlap=2, continuation=None, transitions=start)
    with pytest.raises(ValueError, match="expected 6 rows and columns"):
        FusionTagger(TINY, 5, transitions=start[:5])


def test_the_loss_of_the_seed_has_no_crf():
    with pytest.raises(SettingsError, match=r'decoder.*expected "softmax" with the loss "seed"'):
        dataclasses.replace(TrainerSettings(loss="seed"), decoder="crf")
