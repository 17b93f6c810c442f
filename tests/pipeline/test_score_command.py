"""`fusion-ner score`: the same numbers from a model in this process and from a server, and errors that help."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib

import pytest

from components.example_gen.settings import ReadingSettings
from pipeline.command_line import main
from pipeline.commands.score import add_arguments
from serving.model_server import embedded_server, start_model_server
from tests.infra_validator.fake_servable import export_servable

# The model says that the first two code points of every text are a PER.
GOLD = [
    {
        "text": "王五住在北京",
        "entities": [{"start": 0, "end": 2, "type": "PER"}, {"start": 4, "end": 6, "type": "LOC"}],
    },
    {"text": "😀王五", "entities": [{"start": 1, "end": 3, "type": "PER"}]},
    {"text": "李四", "entities": [{"start": 0, "end": 2, "type": "PER"}]},
    {"text": "北京很大", "entities": [{"start": 0, "end": 2, "type": "LOC"}]},
]
EXPECTED = {
    "strict": {"precision": 2 / 4, "recall": 2 / 5, "f1": 4 / 9},
    "per_type": {
        "LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2},
        "PER": {"precision": 0.5, "recall": 2 / 3, "f1": 4 / 7, "support": 3},
    },
    "texts": 4,
    "entities": 5,
}


@pytest.fixture(scope="module")
def serving_directory(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("ner")
    (folder / "1").mkdir()
    (folder / "1" / "saved_model.pb").write_bytes(b"an old version, broken")
    export_servable(folder / "20")
    (folder / "30").mkdir()
    return folder


@pytest.fixture
def gold(tmp_path) -> pathlib.Path:
    file = tmp_path / "gold.jsonl"
    lines = [json.dumps({**annotated, "id": str(index)}, ensure_ascii=False) for index, annotated in enumerate(GOLD)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def score(capsys, *words: object) -> dict:
    assert main(["score", *map(str, words)]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_model_in_this_process(capsys, gold, serving_directory):
    arguments = ("--gold", gold, "--format", "json_lines", "--model")

    assert score(capsys, *arguments, serving_directory / "20") == EXPECTED
    assert score(capsys, *arguments, serving_directory) == EXPECTED


def test_a_model_behind_a_server_scores_the_same(capsys, gold, serving_directory, tmp_path):
    (tmp_path / "ner").mkdir()
    (tmp_path / "ner" / "20").symlink_to(serving_directory / "20")
    with start_model_server(tmp_path / "ner", "tagger", program=embedded_server()) as server:
        server.wait_until_available(timeout=60)

        assert score(capsys, "--gold", gold, "--target", server.target, "--model-name", "tagger") == EXPECTED


def test_columns_in_a_given_scheme(capsys, tmp_path, serving_directory):
    file = tmp_path / "gold.conll"
    file.write_text("王 B-PER\n五 E-PER\n住 O\n\n李 S-PER\n四 O\n", encoding="utf-8")

    report = score(capsys, "--gold", file, "--format", "conll", "--scheme", "BIOES", "--model", serving_directory)

    assert report["strict"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert (report["texts"], report["entities"]) == (2, 2)


@pytest.fixture
def configuration(tmp_path) -> pathlib.Path:
    file = tmp_path / "pipeline.yaml"
    settings = "train: nowhere.conll, dev_fraction: 0.2, tag_column: 2, token_column: 3, ignore_types: [OTH]"
    file.write_text(f"data: {{{settings}}}\noutput: nowhere\ntrainer: {{epochs: 3}}\n", encoding="utf-8")
    return file


COLUMNS = "{0}\tB-PER\t王\tB-Q\n{0}\tI-PER\t五\tI-Q\n{0}\tO\t住\tO\n{0}\tB-OTH\t京\tB-Q\n"


def test_annotated_text_is_read_as_the_configuration_says(capsys, tmp_path, serving_directory, configuration):
    file = tmp_path / "gold.conll"
    file.write_text(COLUMNS.format("x"), encoding="utf-8")
    words = ["--gold", file, "--model", serving_directory]

    report = score(capsys, *words, "--config", configuration)
    assert (report["strict"]["f1"], report["texts"], report["entities"]) == (1.0, 1, 1)

    report = score(capsys, *words, "--tag-column", "2", "--token-column", "3", "--ignore-types", "OTH,X")
    assert (report["strict"]["f1"], report["entities"]) == (1.0, 1)

    report = score(capsys, *words, "--config", configuration, "--tag-column", "4", "--ignore-types", "")
    assert set(report["per_type"]) == {"Q", "PER"}
    assert report["entities"] == 2

    assert not (tmp_path / "nowhere").exists()


def test_notes_of_the_reader_go_to_stderr(capsys, tmp_path, serving_directory, configuration):
    file = tmp_path / "gold.conll"
    file.write_text(COLUMNS.format("x"), encoding="utf-8")

    assert main(["score", "--gold", str(file), "--model", str(serving_directory), "--config", str(configuration)]) == 0

    written = capsys.readouterr()
    assert json.loads(written.out)["entities"] == 1
    assert f"{file}: the tokens stand in column 3 of 4\n" in written.err
    assert f"{file}: 1 spans have a type of ignore_types and were left out\n" in written.err


@pytest.mark.parametrize(
    ("settings", "words", "message"),
    [
        pytest.param("data: {ignore_tpyes: [A]}", [], "data.ignore_tpyes: unknown setting. Did you", id="misspelt"),
        pytest.param("ignore_types: [A]", [], "ignore_types: expected a section of a pipeline", id="no section"),
        pytest.param("data: [A]", [], "data: expected a mapping of settings", id="a list"),
        pytest.param(None, [], "pipeline.yaml cannot be read", id="no configuration"),
        pytest.param("data: {tag_column: 2}", ["--token-column", "2"], "another column than tag_column", id="both"),
        pytest.param("data:", [], "tag_column: under data of --config FILE, or --tag-column", id="what to set"),
        pytest.param("data: {format: conll}", ["--encoding", "utf-9"], "encoding: expected the name", id="encoding"),
    ],
)
def test_settings_that_cannot_be_are_refused(capsys, tmp_path, serving_directory, settings, words, message):
    file, configuration = tmp_path / "gold.conll", tmp_path / "pipeline.yaml"
    file.write_text(COLUMNS.format("x"), encoding="utf-8")
    if settings is not None:
        configuration.write_text(settings, encoding="utf-8")
    arguments = ["--gold", str(file), "--model", str(serving_directory), "--config", str(configuration), *words]

    assert main(["score", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_every_setting_of_the_reader_has_an_option():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = {action.dest for action in parser._actions}

    assert {field.name for field in dataclasses.fields(ReadingSettings)} <= options


def test_a_corpus_without_entities_scores_zero(capsys, tmp_path, serving_directory):
    file = tmp_path / "gold.jsonl"
    file.write_text(json.dumps({"id": "1", "text": "五", "entities": []}) + "\n", encoding="utf-8")

    report = score(capsys, "--gold", file, "--format", "json_lines", "--model", serving_directory)

    assert report == {
        "strict": {"precision": 0.0, "recall": 0.0, "f1": 0.0},
        "per_type": {},
        "texts": 1,
        "entities": 0,
    }


@pytest.mark.parametrize(
    ("gold_text", "where", "message"),
    [
        pytest.param(None, ["--model", "{model}"], "the file cannot be read", id="no file"),
        pytest.param("", ["--model", "{model}"], "the corpus is empty", id="empty corpus"),
        pytest.param("王 X-PER\n", ["--model", "{model}"], "gold:1", id="tag outside the scheme"),
        pytest.param("王 B-PER\n", ["--model", "{tmp}"], "saved_model.pb", id="no model"),
        pytest.param("王 B-PER\n", ["--model", "{model}/1"], "is no exported tagger", id="broken model"),
        pytest.param("王 B-PER\n", ["--target", "localhost:1", "--timeout", "0"], "timeout", id="no time"),
    ],
)
def test_what_the_user_can_mend_ends_with_2(capsys, tmp_path, serving_directory, gold_text, where, message):
    if gold_text is not None:
        (tmp_path / "gold").write_text(gold_text, encoding="utf-8")
    words = [word.format(model=serving_directory, tmp=tmp_path) for word in where]

    assert main(["score", "--gold", str(tmp_path / "gold"), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_server_that_is_not_there_ends_with_1(capsys, gold):
    assert main(["score", "--gold", str(gold), "--target", "127.0.0.1:9", "--timeout", "0.5"]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err
