"""The configuration: what is accepted, what is refused, and where paths point."""

import json
import textwrap

import pytest

from components import progress
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
    assert str(configuration.serving_directory) == str(corpus / "out" / "serving" / "ner")


def test_options_win_over_the_file(corpus):
    configuration = read_configuration(write(corpus, MINIMAL), {("trainer", "epochs"): 3, ("trainer", "seed"): 9})
    assert (configuration.trainer.epochs, configuration.trainer.seed) == (3, 9)


def test_a_train_file_given_by_option_drops_the_dev_and_test_files_of_the_configuration(corpus):
    other = corpus / "other.jsonl"
    other.write_text('{"text": "上海", "entities": []}\n', encoding="utf-8")
    configuration = read_configuration(write(corpus, MINIMAL), {("data", "train"): str(other)})
    assert (configuration.data.dev, configuration.data.test) == (None, None)


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
UNCASED = (*SPECIAL, *(f"[unused{index}]" for index in range(20)), *"abcdefghijklmnopqrstuvwxyz中国")
WITH_ENCODER = MINIMAL + "    trainer: {encoder: encoder}\n"


def write_encoder(folder, tokens=UNCASED, files=None, *, rows=None):
    """Makes a folder in Hugging Face layout as far as a configuration reads it: all but the weights."""
    folder.mkdir(exist_ok=True)
    shape = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    config = {"model_type": "bert", "vocab_size": len(tokens) if rows is None else rows, **shape}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").touch()
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    for name, values in (files or {}).items():
        (folder / name).write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return folder


@pytest.fixture
def reported(monkeypatch):
    lines = []
    monkeypatch.setattr(progress, "report", lines.append)
    return lines


def test_an_encoder_brings_its_vocabulary_and_the_case_of_its_tokenizer(corpus, reported):
    files = {"tokenizer_config.json": {"do_lower_case": False}}
    encoder = write_encoder(corpus / "encoder", (*UNCASED, "The", "##S"), files=files)
    configuration = read_configuration(write(corpus, WITH_ENCODER), {})
    assert configuration.transform.vocabulary == str(encoder / "vocab.txt")
    assert configuration.transform.lower_case is False
    assert not reported


@pytest.mark.parametrize(
    ("tokens", "declared", "effect"),
    [
        # As the folder of bert-base-chinese says it.
        pytest.param(UNCASED, False, "words with capital letters become [UNK]", id="cased without capital letters"),
        pytest.param((*UNCASED, "The", "##S"), True, "lower-cased text never meets them", id="uncased with them"),
    ],
)
def test_a_declared_case_that_the_vocabulary_contradicts_is_taken_and_told(corpus, reported, tokens, declared, effect):
    write_encoder(corpus / "encoder", tokens, files={"tokenizer_config.json": {"do_lower_case": declared}})
    configuration = read_configuration(write(corpus, WITH_ENCODER), {})
    assert configuration.transform.lower_case is declared
    (line,) = reported
    assert line.startswith(
        f"transform.lower_case: {str(declared).lower()}, as {corpus / 'encoder'} declares it, although "
    )
    assert f"A to Z: {effect}; set transform.lower_case if" in line


@pytest.mark.parametrize(
    ("tokens", "lower_case", "share"),
    [
        pytest.param(UNCASED, True, "0.00%", id="uncased"),
        pytest.param((*UNCASED, "The", "##S"), False, "6.67%", id="cased"),
        pytest.param((*UNCASED, "Zoë", *"0" * 71), False, "1.00%", id="one piece in a hundred"),
        pytest.param((*UNCASED, "Zoë", *"0" * 72), True, "0.99%", id="fewer"),
        pytest.param((*UNCASED, "É"), True, "0.00%", id="letters of other alphabets do not count"),
        pytest.param(SPECIAL, True, "0.00%", id="special pieces only"),
    ],
)
def test_the_vocabulary_tells_the_case_where_nothing_declares_it(corpus, reported, tokens, lower_case, share):
    encoder = write_encoder(corpus / "encoder", tokens)
    configuration = read_configuration(write(corpus, WITH_ENCODER), {})
    assert configuration.transform.lower_case is lower_case
    assert reported == [
        f"transform.lower_case: {str(lower_case).lower()}, because {encoder} does not declare it and {share} of the "
        "pieces in vocab.txt have one of the letters A to Z (from 1% it is cased)"
    ]


def test_a_padded_table_of_the_encoder_is_told(corpus, reported):
    encoder = write_encoder(corpus / "encoder", files={"tokenizer_config.json": {"do_lower_case": True}}, rows=64)
    read_configuration(write(corpus, WITH_ENCODER), {})
    (line,) = reported
    assert line.startswith(f"{encoder}/vocab.txt: has 52 tokens, and the encoder 64 word embeddings")


def test_a_given_case_wins_over_the_vocabulary(corpus, reported):
    write_encoder(corpus / "encoder", (*UNCASED, *"ABC"))
    configuration = read_configuration(write(corpus, WITH_ENCODER), {("transform", "lower_case"): True})
    assert configuration.transform.lower_case is True
    assert not reported


def test_a_given_case_passes_over_the_tokenizer_of_the_encoder(corpus):
    write_encoder(corpus / "encoder", files={"tokenizer_config.json": {"tokenize_chinese_chars": False}})
    configuration = read_configuration(write(corpus, WITH_ENCODER), {("transform", "lower_case"): True})
    assert configuration.transform.lower_case is True


def no_config(encoder):
    (encoder / "config.json").unlink()


def no_weights(encoder):
    (encoder / "model.safetensors").unlink()


def shards_are_missing(encoder):
    (encoder / "model.safetensors").unlink()
    index = {"weight_map": {"embeddings.word_embeddings.weight": "model-1.safetensors"}}
    (encoder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def another_architecture(encoder):
    (encoder / "config.json").write_text('{"model_type": "roberta"}', encoding="utf-8")


def two_checkpoints(encoder):
    no_weights(encoder)
    (encoder / "config.json").rename(encoder / "bert_config.json")
    for name in ("a.ckpt.index", "b.ckpt.index"):
        (encoder / name).touch()


def another_vocabulary(encoder):
    with (encoder / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("more\n")


def no_vocabulary_of_bert(encoder):
    (encoder / "vocab.txt").write_text("<s>\n</s>\na\n", encoding="utf-8")


def vocabulary_in_another_file(encoder):
    (encoder / "vocab.txt").unlink()
    model = {"type": "WordPiece", "vocab": {"[PAD]": 0}}
    (encoder / "tokenizer.json").write_text(json.dumps({"model": model}), encoding="utf-8")


def another_tokenizer(encoder):
    (encoder / "tokenizer_config.json").write_text('{"tokenize_chinese_chars": false}', encoding="utf-8")


def few_positions(encoder):
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    (encoder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2}), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_config, "trainer.encoder: {encoder}: expected config.json with"),
        (no_weights, "trainer.encoder: {encoder}: expected config.json with"),
        (shards_are_missing, "trainer.encoder: {encoder}/model.safetensors.index.json: shards are missing: model-1."),
        (another_architecture, "trainer.encoder: {encoder}/config.json: model_type: expected 'bert'"),
        (two_checkpoints, "trainer.encoder: {encoder}: expected bert_model.ckpt.index or one other"),
        (another_vocabulary, "trainer.encoder: {encoder}/vocab.txt: has 53 tokens, but the encoder has 52 word"),
        (no_vocabulary_of_bert, "transform.vocabulary: {encoder}/vocab.txt: the vocabulary of 3 tokens lacks [PAD]"),
        (vocabulary_in_another_file, "trainer.encoder: {encoder}: has no vocab.txt; write the pieces of model.vocab"),
        (another_tokenizer, "trainer.encoder: {encoder}/tokenizer_config.json: tokenize_chinese_chars is false"),
        (few_positions, "window"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_refused_before_anything_runs(corpus, damage, message):
    encoder = write_encoder(corpus / "encoder")
    read_configuration(write(corpus, WITH_ENCODER), {})
    damage(encoder)
    with pytest.raises(SettingsError) as error:
        read_configuration(write(corpus, WITH_ENCODER), {})
    assert message.format(encoder=encoder) in str(error.value)


REFUSED = {
    "no data": ("output: out", "data: this setting is required"),
    "unknown key": (MINIMAL + "    trainer: {epoch: 3}", "trainer.epoch: unknown setting. Did you mean 'epochs'?"),
    "wrong type": (MINIMAL + "    trainer: {epochs: many}", "trainer.epochs: expected int; received 'many'"),
    "impossible": (MINIMAL + "    trainer: {epochs: 0}", "epochs: expected a positive number; received 0"),
    "unknown fusion": (MINIMAL + "    trainer: {fusion: deep}", "trainer.fusion: expected one of 'dynamic'"),
    "name": (MINIMAL + "    name: Tiny NER", "name: expected 1 to 63 lower-case letters"),
    "no encoder": (MINIMAL + "    trainer: {encoder: nowhere}", "trainer.encoder: expected an existing folder"),
    "no vocabulary": (MINIMAL + "    transform: {vocabulary: no.txt}", "transform.vocabulary: expected an existing"),
    "case in two places": (
        MINIMAL + "    trainer: {lower_case: false}",
        "trainer.lower_case: unknown setting",
    ),
    "no train file": ("output: out\ndata: {train: nowhere.jsonl}", "data.train: there is no file"),
    "output is a file": ("output: train.jsonl\ndata: {train: train.jsonl}", "output: expected a folder"),
    "a list": ("- a\n- b", "expected a mapping of settings"),
    "broken YAML": ("a: [b", "is not YAML"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(corpus, case):
    text, message = REFUSED[case]
    with pytest.raises(SettingsError) as error:
        read_configuration(write(corpus, text), {})
    assert message in str(error.value)


def test_a_missing_configuration_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.yaml cannot be read: No such file"):
        read_configuration(tmp_path / "nowhere.yaml", {})
