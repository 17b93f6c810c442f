from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components import features
from components.pusher.card_sources import gather_card
from components.pusher.publish import publish
from components.settings import SettingsError
from components.trainer import run, training
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.loss import NO_TAG
from components.trainer.run import run_fn
from components.trainer.training_data import TrainingDataError
from components.trainer.warm_up import read_warm_up
from components.transform.vocabulary import Vocabulary
from tests.trainer.conftest import examples_of, write_examples
from tests.trainer.tiny_taggers import TINY, google_research_weights, hugging_face_tensors, random_tagger
from tests.trainer.torch_files import state_dict, write_zip


def test_the_trainer_leaves_a_model_and_a_report(training_arguments, tmp_path):
    run_fn(training_arguments)
    model = tf.saved_model.load(training_arguments.serving_model_dir)
    answer = model.signatures["serving_default"](text=tf.constant(["张三在北京工作。"]))
    assert answer["entity_text"].numpy()[0].tolist() == ["张三".encode(), "北京".encode()]
    report = json.loads((Path(training_arguments.model_run_dir) / "training.json").read_text(encoding="utf-8"))
    assert len(report["epochs"]) == 8
    assert report["epochs"][report["best_epoch"] - 1]["f1"] == max(epoch["f1"] for epoch in report["epochs"]) > 0.8
    assert report["splits"]["train"] == {"texts": 24, "tokens": 140, "entities": 32, "unaligned": 0}
    assert (report["whole_words"], report["annotated_by_whitespace"]) == (True, False)
    assert report["tags"] == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert (report["tokenizer"]["lower_case"], report["libraries"]["tensorflow"]) == (True, tf.__version__)
    requests = read_warm_up(training_arguments.serving_model_dir)
    assert {request.model_spec.signature_name for request in requests} == set(model.signatures)
    for request in requests:
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        assert model.signatures[request.model_spec.signature_name](**inputs)
    assert list(Path(training_arguments.model_run_dir).glob("events.out.tfevents.*"))
    assert list((tmp_path / "checkpoints").iterdir()) == [], "the state outlives a training that succeeded"


def test_whitespace_tells_what_counts_and_where_entities_begin(training_arguments, tmp_path, tiny_tags):
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "@"))
    assets = Path(training_arguments.transform_graph_path) / "transform_fn" / "assets"
    (assets / features.VOCABULARY_ASSET).write_bytes(vocabulary.to_bytes())
    # The same word pieces with and without whitespace: what is glued says nothing, though there is more of it.
    examples = examples_of((*(("b @a b", ()),) * 3, ("b @ a b", ((4, 5, "PER"),))), vocabulary, tiny_tags)
    write_examples(tmp_path / "train.gz", examples * 6)
    write_examples(tmp_path / "dev.gz", examples)
    run_fn(training_arguments)
    report = json.loads((Path(training_arguments.model_run_dir) / "training.json").read_text(encoding="utf-8"))
    assert report["annotated_by_whitespace"] is True
    assert report["settings"]["annotated_by_whitespace"] is None
    tag = tf.saved_model.load(training_arguments.serving_model_dir).signatures["serving_default"]
    assert tag(text=tf.constant(["b @ a b", "b@a b"]))["entity_start"].numpy().tolist() == [[4], [-1]]


def test_the_exported_precision_is_the_one_that_is_scored_and_served(training_arguments):
    training_arguments.custom_config |= {"precision": "mixed_bfloat16", "serving_precision": "bfloat16"}
    run_fn(training_arguments)
    variables = tf.train.load_checkpoint(f"{training_arguments.serving_model_dir}/variables/variables")
    types = variables.get_variable_to_dtype_map()
    matrices = [name for name, shape in variables.get_variable_to_shape_map().items() if len(shape) == 2]
    assert {types[name] for name in matrices if "encoder" in name} == {tf.bfloat16}
    report = json.loads((Path(training_arguments.model_run_dir) / "training.json").read_text(encoding="utf-8"))
    model = tf.saved_model.load(training_arguments.serving_model_dir)
    dev = tf.data.TFRecordDataset(tf.io.gfile.glob(training_arguments.eval_files), compression_type="GZIP")
    answer = model.signatures["examples"](examples=tf.constant([example.numpy() for example in dev]))
    gold, predicted = (
        [{entity for entity in row if entity} for row in answer[f"{name}_entities"].numpy()]
        for name in ("gold", "predicted")
    )
    right = sum(len(one & other) for one, other in zip(gold, predicted, strict=True))
    assert report["exported"]["precision"] == pytest.approx(right / sum(map(len, predicted)))
    assert report["exported"]["recall"] == pytest.approx(right / sum(map(len, gold)))


def test_a_training_on_two_replicas_resumes_and_is_exported(training_arguments, tmp_path):
    training_arguments.custom_config |= {
        "epochs": 2,
        # Tracing the graphs of both replicas takes nearly all of the time.
        "random_encoder": training_arguments.custom_config["random_encoder"] | {"num_layers": 1},
        "distribution": "mirrored",
        "precision": "mixed_float16",
        "recipe": {"ema_decay": 0.5, "gradient_accumulation_steps": 2},
    }
    (tmp_path / "arguments.json").write_text(json.dumps(vars(training_arguments)), encoding="utf-8")
    script = Path(__file__).with_name("mirrored_training.py")
    finished = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "arguments.json")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads((Path(training_arguments.model_run_dir) / "training.json").read_text(encoding="utf-8"))
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2]
    assert report["epochs"][1]["loss"] < report["epochs"][0]["loss"]
    model = tf.saved_model.load(training_arguments.serving_model_dir)
    logits = model.signatures["tokens"](token_ids=tf.constant([[2, 5, 3]]), padding_mask=tf.ones([1, 3], tf.int32))
    assert logits["logits"].shape == (1, 3, 5)


class StoppedBeforeTrainingError(Exception):
    """Raised in place of training."""


@pytest.mark.parametrize("loss", ["masked", "seed"])
def test_tags_count_once_or_with_the_loss_of_the_seed_in_every_window(training_arguments, monkeypatch, loss):
    corpora = []

    def train(text_tagger, corpus, *arguments, **options):
        corpora.append(corpus)
        raise StoppedBeforeTrainingError

    monkeypatch.setattr(run, "train", train)
    training_arguments.custom_config["loss"] = loss
    with pytest.raises(StoppedBeforeTrainingError):
        run_fn(training_arguments)
    (corpus,) = corpora
    tokens_in_windows = len(corpus.windows.token_ids) - 2 * len(corpus.windows.lengths)
    assert tokens_in_windows > 140, "no token stands in two windows"
    expected = tokens_in_windows if loss == "seed" else 140
    assert np.count_nonzero(corpus.windows.tag_ids != NO_TAG) == expected


def test_a_warm_start_has_the_rates_of_a_trained_model_as_soon_as_there_is_a_version(
    training_arguments, tmp_path, monkeypatch
):
    rates = []

    def train(text_tagger, corpus, settings, **options):
        rates.append((settings.peak_learning_rate, settings.peak_head_learning_rate))
        return training.train(text_tagger, corpus, settings, **options)

    monkeypatch.setattr(run, "train", train)
    training_arguments.custom_config |= {"epochs": 1, "learning_rate": None, "warm_start": str(tmp_path / "serving")}
    run_fn(training_arguments)
    card = gather_card("ner", model_run=training_arguments.model_run_dir)
    publish(training_arguments.serving_model_dir, tmp_path / "serving", card=lambda version, digest: card.to_bytes())
    training_arguments.serving_model_dir = str(tmp_path / "next")
    run_fn(training_arguments)
    assert rates == [(5e-4, 5e-4), (5e-5, 5e-5)]


def without_entities(serialized):
    example = tf.train.Example.FromString(serialized)
    for name in ("entity_start", "entity_end", "entity_type"):
        example.features.feature[name].Clear()
        kind = "bytes_list" if name == "entity_type" else "int64_list"
        getattr(example.features.feature[name], kind).SetInParent()
    return example.SerializeToString()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param("train.gz", "split train: 6 texts without a single entity; the tagger learns nothing", id="train"),
        pytest.param("dev.gz", "split dev: 6 texts without a single entity; the best epoch is chosen", id="dev"),
    ],
)
def test_a_split_without_entities_is_refused(training_arguments, transformed_examples, tmp_path, file, message):
    with tf.io.TFRecordWriter(str(tmp_path / file), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for example in transformed_examples:
            writer.write(without_entities(example))
    with pytest.raises(TrainingDataError, match=message):
        run_fn(training_arguments)


def test_unknown_settings_are_refused(training_arguments):
    training_arguments.custom_config["epoch"] = 3
    with pytest.raises(SettingsError, match=r"trainer\.epoch: unknown setting"):
        run_fn(training_arguments)


def test_an_encoder_with_a_padded_table_is_trained_and_exported(training_arguments, tmp_path, tiny_vocabulary):
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    config = dataclasses.replace(TINY, vocab_size=len(tiny_vocabulary) + 7)
    shape = {
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
    }
    (encoder / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    tensors = hugging_face_tensors(google_research_weights(random_tagger(config)))
    write_zip(encoder / "pytorch_model.bin", state_dict(tensors))
    training_arguments.custom_config |= {"encoder": str(encoder), "epochs": 1}
    run_fn(training_arguments)
    model = tf.saved_model.load(training_arguments.serving_model_dir)
    answer = model.signatures["serving_default"](text=tf.constant(["张三在北京工作。"]))
    assert answer["entity_score"].shape[0] == 1
    report = json.loads((Path(training_arguments.model_run_dir) / "training.json").read_text(encoding="utf-8"))
    assert report["encoder"]["vocab_size"] == report["tokenizer"]["vocabulary_size"] + 7


def test_a_folder_that_is_no_encoder_is_refused(training_arguments, tmp_path):
    training_arguments.custom_config["encoder"] = str(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="nowhere: there is no such folder"):
        run_fn(training_arguments)


def test_an_encoder_that_changed_since_the_pipeline_was_built_is_refused(training_arguments, tmp_path):
    (tmp_path / "encoder").mkdir()
    training_arguments.custom_config |= {"encoder": str(tmp_path / "encoder"), "encoder_digest": "0" * 64}
    with pytest.raises(CheckpointError, match=r"encoder: the folder has changed since the pipeline was built"):
        run_fn(training_arguments)
