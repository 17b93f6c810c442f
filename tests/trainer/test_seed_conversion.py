"""`fusion-ner convert`: a checkpoint that the seed's code wrote, served with the seed's numbers."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from components.pusher.model_card import read_card
from components.pusher.versions import list_versions
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.text_tagger import TextTagger
from components.trainer.warm_start import load_version
from components.transform.vocabulary import Vocabulary
from pipeline.command_line import main
from tests.trainer.seed_sizes import BASE, SLOW, SMALL

REFERENCE = pathlib.Path(__file__).with_name("seed_reference.py")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"张三在北京工作李四上海王五朋友的他", "play", "##ing", "##s", "in")
LABELS = ("[PAD]", "O", "S-PER", "B-PER", "I-PER", "E-PER", "S-LOC", "B-LOC", "I-LOC", "E-LOC", "X")
ROW_LENGTHS = (12, 3, 7)
TOLERANCE = 5e-5  # of float32 logits of the seed


@dataclasses.dataclass(frozen=True)
class Converted:
    """The seed's files and numbers, and the version made of them."""

    folder: pathlib.Path
    version: pathlib.Path
    token_ids: np.ndarray
    mask: np.ndarray
    seed: dict[str, np.ndarray]


def command(folder, **changed):
    options = {
        "--checkpoint": folder / "model.ckpt-7",
        "--bert-config": folder / "bert_config.json",
        "--vocab": folder / "vocab.txt",
        "--labels": folder / "labels.txt",
        "--output": folder / "serving" / "ner",
    } | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return ["convert", *(str(word) for option in options.items() for word in option)]


def converted_from(folder, config, vocabulary, row_lengths):
    """Lets the seed's code write a checkpoint with random weights, and converts it."""
    mask = (np.arange(max(row_lengths)) < np.array(row_lengths)[:, np.newaxis]).astype(np.int32)
    token_ids = np.where(mask, np.random.default_rng(5).integers(1, len(vocabulary), mask.shape), 0)
    request = {
        "config": config,
        "tag_count": len(LABELS),
        "token_ids": token_ids.tolist(),
        "input_mask": mask.tolist(),
        "labels": np.zeros_like(mask).tolist(),
        "seed": 17,
    }
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    (folder / "bert_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    files = [str(folder / name) for name in ("request.json", "result.npz", "model.ckpt-7")]
    subprocess.run([sys.executable, str(REFERENCE), *files], check=True)
    assert main(command(folder)) == 0
    (version,) = list_versions(folder / "serving" / "ner")
    path = folder / "serving" / "ner" / str(version)
    return Converted(folder, path, token_ids.astype(np.int32), mask, dict(np.load(folder / "result.npz")))


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    config = SMALL.config | {"vocab_size": len(VOCABULARY)}
    return converted_from(tmp_path_factory.mktemp("seed"), config, VOCABULARY, ROW_LENGTHS)


@pytest.fixture(scope="module")
def signatures(converted):
    return tf.saved_model.load(str(converted.version)).signatures


def check_tokens(converted, signatures, tolerance):
    """Compares what the signature `tokens` returns of real tokens with the seed's own numbers."""
    answer = signatures["tokens"](token_ids=tf.constant(converted.token_ids), padding_mask=tf.constant(converted.mask))
    real = converted.mask == 1
    for ours, seeds in (("logits", "logits"), ("layer_weights", "layer_dist")):
        difference = np.abs(answer[ours].numpy()[real] - converted.seed[seeds][real]).max()
        print(f"{ours}: largest difference {difference:.1e}")
        assert difference < tolerance


def test_the_served_logits_and_layer_weights_are_the_seeds(converted, signatures):
    check_tokens(converted, signatures, TOLERANCE)


@pytest.mark.parametrize("size", [pytest.param(BASE, id="bert_base", marks=SLOW)])
def test_the_served_numbers_of_a_large_model_are_the_seeds(tmp_path, size):
    special = VOCABULARY[:4]
    vocabulary = (*special, *(f"token{place}" for place in range(len(special), size.config["vocab_size"])))
    large = converted_from(tmp_path, size.config, vocabulary, size.row_lengths)
    check_tokens(large, tf.saved_model.load(str(large.version)).signatures, size.tolerance)


def test_texts_get_entities_of_whole_words(signatures):
    text = "张三在北京playings工作 plays李四in上海" * 3
    answer = {name: value.numpy() for name, value in signatures["serving_default"](tf.constant([text, ""])).items()}
    count = answer["entity_count"][0]
    assert count > 0
    assert answer["entity_count"][1] == 0
    starts, ends = answer["entity_start"][0, :count], answer["entity_end"][0, :count]
    assert [text[start:end].encode() for start, end in zip(starts, ends, strict=True)] == list(
        answer["entity_text"][0, :count]
    )
    assert set(answer["entity_type"][0, :count]) <= {b"PER", b"LOC"}
    assert np.all((answer["entity_score"][0, :count] > 0) & (answer["entity_score"][0, :count] <= 1))
    # Between two letters no word ends: only blanks and Chinese characters separate.
    is_letter = [character.isascii() and character.isalpha() for character in text]
    inside = {place for place in range(1, len(text)) if is_letter[place - 1] and is_letter[place]}
    assert not inside & {*starts.tolist(), *ends.tolist()}


def test_a_conversion_to_half_the_size(converted, tmp_path):
    assert main(command(converted.folder, output=tmp_path / "ner", precision="bfloat16")) == 0
    (version,) = (folder for folder in (tmp_path / "ner").iterdir() if folder.name.isdigit())
    kernel = "text_tagger/tagger/encoder/layers/0/output/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    variables = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    assert variables.get_variable_to_dtype_map()[kernel] == tf.bfloat16
    assert read_card(version).model["precision"] == "bfloat16"
    answer = tf.saved_model.load(str(version)).signatures["tokens"](
        token_ids=tf.constant(converted.token_ids), padding_mask=tf.constant(converted.mask)
    )
    difference = np.abs(answer["logits"].numpy() - converted.seed["logits"])[converted.mask == 1].max()
    assert TOLERANCE < difference < 0.1 * np.abs(converted.seed["logits"]).max()


def convert_with(converted, folder, option, **changed):
    """Converts with one more option; returns the version's folder."""
    assert main([*command(converted.folder, output=folder / "ner", **changed), option]) == 0
    (version,) = list_versions(folder / "ner")
    return folder / "ner" / str(version)


def test_a_cased_model_keeps_capital_letters(converted, tmp_path):
    vocabulary = [{"play": "P", "in": "p"}.get(token, token) for token in VOCABULARY]
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    version = convert_with(converted, tmp_path, "--cased", vocab=tmp_path / "vocab.txt")
    assert read_card(version).tokenizer["lower_case"] is False
    signatures = tf.saved_model.load(str(version)).signatures
    by_text = signatures["explain"](tf.constant(["P", "p"]))["layer_weights"].numpy()
    rows = tf.constant([[2, vocabulary.index(letter), 3] for letter in "Pp"])
    by_id = signatures["tokens"](token_ids=rows, padding_mask=tf.ones_like(rows))["layer_weights"].numpy()
    np.testing.assert_allclose(by_text[:, 0], by_id[:, 1], atol=1e-6)
    assert np.abs(by_id[0, 1] - by_id[1, 1]).max() > 1e-3, "both letters look alike"


def test_in_iob1_an_inside_label_begins_an_entity(converted, signatures, tmp_path):
    row = tf.constant([[2, VOCABULARY.index("张"), 3]])
    best_first = np.argsort(
        -signatures["tokens"](token_ids=row, padding_mask=tf.ones_like(row))["logits"].numpy()[0, 1]
    )
    labels = [f"[{place}]" for place in range(len(LABELS))]
    for place, label in zip(best_first, ("I-PER", "O", "B-PER"), strict=False):
        labels[place] = label
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    version = convert_with(converted, tmp_path, "--iob1", labels=tmp_path / "labels.txt")
    answer = tf.saved_model.load(str(version)).signatures["serving_default"](tf.constant(["张"]))
    found = [answer[name].numpy().tolist() for name in ("entity_start", "entity_end", "entity_type")]
    assert found == [[[0]], [[1]], [[b"PER"]]]


def test_every_signature_and_the_warm_up_travel_along(converted, signatures):
    assert set(signatures) == {"serving_default", "tokens", "examples", "explain"}
    assert (converted.version / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0


def test_the_card_says_where_the_model_comes_from(converted):
    card = read_card(converted.version)
    assert card.types == ("PER", "LOC")
    assert card.version == int(converted.version.name)
    assert tuple(card.model["labels"]) == LABELS
    assert card.training == {"converted_from": "model.ckpt-7"}
    assert card.tokenizer["lower_case"] is True


def test_training_does_not_start_from_a_version_with_other_labels(converted):
    """The rows of its classifier mean other tags, even where their number is the same."""
    with pytest.raises(CheckpointError, match="has the labels \\[PAD\\], O, S-PER"):
        load_version(
            TextTagger.__new__(TextTagger),
            converted.version,
            Vocabulary(VOCABULARY),
            ("O", "B-LOC", "I-LOC"),
            lower_case=True,
        )


def test_the_version_is_the_last_line_printed(converted, tmp_path, capsys):
    assert main(command(converted.folder, output=tmp_path / "ner")) == 0
    path = pathlib.Path(capsys.readouterr().out.splitlines()[-1])
    assert path.parent == tmp_path / "ner"
    assert (path / "saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(
            "labels",
            "O\nB-PER\n",
            "has 2 labels, but output_weights in .* has 11 rows; list every id",
            id="count",
        ),
        pytest.param("labels", "O\nPERSON\n", "labels: the label 1, 'PERSON', is unknown", id="unknown label"),
        pytest.param("labels", "O\nB-A\nO\n", "labels: the label 'O' stands twice, as 0 and as 2", id="duplicate"),
        pytest.param("labels", "O\n\nB-A\n", "labels:2: an empty line", id="empty line"),
        pytest.param("vocab", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n", "has 4 tokens, but the encoder has 25", id="vocabulary"),
        pytest.param("bert_config", "{}", "bert_config: lacks vocab_size", id="configuration"),
        pytest.param("checkpoint", None, "checkpoint.index: there is no such file", id="no checkpoint"),
        pytest.param("labels", None, "labels: the labels cannot be read: No such file", id="no labels"),
    ],
)
def test_files_that_do_not_fit_are_refused(converted, tmp_path, capsys, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert main(command(converted.folder, output=tmp_path / "ner", **{name: path})) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "ner").exists()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            ("model.ckpt-7.index", "model.ckpt-9.index", "vocab.txt"),
            "is a folder; expected the path of a checkpoint without .index; in it lie model.ckpt-7, model.ckpt-9",
            id="with checkpoints",
        ),
        pytest.param(
            ("vocab.txt",),
            "is a folder; expected the path of a checkpoint without .index; none lies in it",
            id="without",
        ),
    ],
)
@pytest.mark.parametrize("place", ["", ".", "absolute"])
def test_a_folder_is_no_checkpoint(converted, tmp_path, monkeypatch, capsys, files, expected, place):
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path if place == "absolute" else place
    assert main(command(converted.folder, output=tmp_path / "ner", checkpoint=checkpoint)) == 2
    assert f"{tmp_path if place == 'absolute' else '.'}: {expected}\n" in capsys.readouterr().err


def test_a_pretrained_encoder_is_no_tagger(converted, tmp_path, capsys):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("bert/embeddings/word_embeddings", [3, 2])
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "encoder"), write_meta_graph=False)
    assert main(command(converted.folder, output=tmp_path / "ner", checkpoint=tmp_path / "encoder")) == 2
    assert "has no tensor output_weights, so it is no tagger" in capsys.readouterr().err
