"""The configuration: what is accepted, what is refused, and where paths point."""

import json
import textwrap

import pytest

from components.settings import SettingsError
from pipeline.configuration import read_configuration


@pytest.fixture
def corpus(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"text": "北京", "entities": []}\n', encoding="utf-8")
    return tmp_path


def write(folder, text):
    path = folder / "pipeline.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


MINIMAL = """
    output: out
    data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}
"""


def test_paths_in_the_file_are_relative_to_its_folder(corpus):
    configuration = read_configuration(write(corpus, MINIMAL), {})
    assert configuration.data.train == str(corpus / "train.jsonl")
    assert configuration.output == str(corpus / "out")
    assert str(configuration.serving_directory) == str(corpus / "out" / "serving" / "fusion-ner")


def test_options_win_over_the_file(corpus):
    configuration = read_configuration(write(corpus, MINIMAL), {("trainer", "epochs"): 3, ("trainer", "seed"): 9})
    assert (configuration.trainer.epochs, configuration.trainer.seed) == (3, 9)


def test_a_train_file_given_by_option_drops_the_dev_and_test_files_of_the_configuration(corpus):
    other = corpus / "other.jsonl"
    other.write_text('{"text": "上海", "entities": []}\n', encoding="utf-8")
    configuration = read_configuration(write(corpus, MINIMAL), {("data", "train"): str(other)})
    assert (configuration.data.dev, configuration.data.test) == (None, None)


def test_an_encoder_brings_its_vocabulary_and_the_case_of_its_tokenizer(corpus):
    encoder = corpus / "encoder"
    encoder.mkdir()
    (encoder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", encoding="utf-8")
    (encoder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}), encoding="utf-8")
    configuration = read_configuration(write(corpus, MINIMAL + "    trainer: {encoder: encoder}\n"), {})
    assert configuration.transform.vocabulary == str(encoder / "vocab.txt")
    assert configuration.transform.lower_case is False
    assert configuration.trainer.lower_case is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("output: out", "data: this setting is required", id="no data"),
        pytest.param(
            MINIMAL + "    trainer: {epoch: 3}",
            "trainer.epoch: unknown setting. Did you mean 'epochs'?",
            id="unknown key",
        ),
        pytest.param(
            MINIMAL + "    trainer: {epochs: many}", "trainer.epochs: expected int; received 'many'", id="wrong type"
        ),
        pytest.param(
            MINIMAL + "    trainer: {epochs: 0}", "epochs: expected a positive number; received 0", id="impossible"
        ),
        pytest.param(
            MINIMAL + "    trainer: {fusion: deep}", "trainer.fusion: expected one of 'dynamic'", id="unknown fusion"
        ),
        pytest.param(MINIMAL + "    name: Tiny NER", "name: expected 1 to 63 lower-case letters", id="name"),
        pytest.param(
            MINIMAL + "    trainer: {encoder: nowhere}", "trainer.encoder: expected an existing folder", id="no encoder"
        ),
        pytest.param(
            MINIMAL + "    transform: {vocabulary: nowhere.txt}",
            "transform.vocabulary: expected an existing",
            id="no vocabulary",
        ),
        pytest.param("output: out\ndata: {train: nowhere.jsonl}", "data.train: there is no file", id="no train file"),
        pytest.param(
            "output: train.jsonl\ndata: {train: train.jsonl}", "output: expected a folder", id="output is a file"
        ),
        pytest.param("- a\n- b", "expected a mapping of settings", id="a list"),
        pytest.param("a: [b", "is not YAML", id="broken YAML"),
    ],
)
def test_refuses(corpus, text, message):
    with pytest.raises(SettingsError, match="^.*") as error:
        read_configuration(write(corpus, text), {})
    assert message in str(error.value)


def test_a_missing_configuration_is_named(tmp_path):
    with pytest.raises(SettingsError, match="nowhere.yaml cannot be read: No such file"):
        read_configuration(tmp_path / "nowhere.yaml", {})
