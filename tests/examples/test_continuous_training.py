"""Tests of the demonstration of continuous training: its parts always, the three runs on demand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from components.example_gen.reading import read_annotated_text
from components.example_gen.settings import ReadingSettings
from components.transform.vocabulary import Vocabulary
from examples import continuous_training as demonstration
from pipeline.configuration import read_configuration


def test_the_configuration_is_one_for_all_spans(tmp_path: Path) -> None:
    path = demonstration.write_configuration(tmp_path, tmp_path / "output/serving/ner", epochs=1)
    demonstration.write_vocabulary(tmp_path / "vocab.txt")
    configuration = read_configuration(path, {})
    assert configuration.trainer.warm_start == str(configuration.serving_directory)
    assert "{SPAN}" in configuration.data.train
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["name"] == "ner"


def test_the_vocabulary_is_usable(tmp_path: Path) -> None:
    demonstration.write_vocabulary(tmp_path / "vocab.txt")
    vocabulary = Vocabulary.from_file(str(tmp_path / "vocab.txt"))
    assert {"北", "京", "a", "##a"} <= set(vocabulary.tokens)


@pytest.mark.parametrize("span", [1, 2, 3])
def test_spans_can_be_read_and_only_the_second_is_spoilt(tmp_path: Path, span: int) -> None:
    demonstration.write_span(tmp_path, span, texts=40)
    folder = tmp_path / "data" / str(span)
    texts = read_annotated_text(str(folder / "train.jsonl"), ReadingSettings())
    assert len(texts) == 40
    original = {
        json.loads(line)["text"]: json.loads(line)["entities"]
        for line in (demonstration.CORPUS / "train.jsonl").read_text(encoding="utf-8").splitlines()
    }
    same = [
        [(entity.start, entity.end, entity.type) for entity in text.entities]
        == [(entity["start"], entity["end"], entity["type"]) for entity in original[text.text]]
        for text in texts
    ]
    assert all(same) if span != demonstration.SPOILT_SPAN else sum(same) < 5
    test_lines = (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert test_lines == (demonstration.CORPUS / "test.jsonl").read_text(encoding="utf-8").splitlines()[:150]


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("FUSION_NER_SLOW_TESTS") != "1", reason="FUSION_NER_SLOW_TESTS is not 1")
def test_three_spans_two_pushes_and_a_client_without_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demonstration.demonstrate(tmp_path, texts=400, epochs=6) == 0
    output = capsys.readouterr().out
    assert "span 2: F1" in output
    assert "refused by the gate" in output
    assert " 0 failed" in output
