"""Tests of the Beam pipeline: results in order, continuing, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tensorflow as tf

from components import features
from components.batch_tagging import job
from components.batch_tagging.settings import BatchSettings
from components.batch_tagging.shards import BatchError
from components.batch_tagging.taggers import SavedModelTagger, model_folder
from components.settings import SettingsError
from pipeline.command_line import main


class _FirstCharacters(tf.Module):
    """A model with the signature of the tagger, which takes the first character of each text for an entity."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, features.TEXT)])
    def tag(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.cast(tf.strings.length(text, unit="UTF8_CHAR") > 0, tf.int32)
        first = tf.strings.substr(tf.strings.join([text, " "]), 0, 1, unit="UTF8_CHAR")
        column = count[:, tf.newaxis]
        return {
            features.ENTITY_COUNT: count,
            features.ENTITY_START: column - 1,
            features.ENTITY_END: 2 * column - 1,
            features.ENTITY_TYPE: tf.where(column > 0, "FIRST", ""),
            features.ENTITY_TEXT: first[:, tf.newaxis],
            features.ENTITY_SCORE: tf.cast(column, tf.float32) / 2,
        }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two versions, of which the newest is taken."""
    folder = tmp_path_factory.mktemp("model")
    module = _FirstCharacters()
    for version in ("9", "10"):
        tf.saved_model.save(module, str(folder / version), signatures={features.SERVING_SIGNATURE: module.tag})
    return folder


@pytest.fixture
def settings(tmp_path: Path, model: Path) -> BatchSettings:
    lines = [f"文{number} a text" for number in range(50)]
    (tmp_path / "a.txt").write_text("\n".join(lines[:30]) + "\n", encoding="utf-8")
    objects = [json.dumps({"id": number, "text": text}) for number, text in enumerate(lines[30:])]
    (tmp_path / "b.jsonl").write_text("\n".join(objects), encoding="utf-8")
    return BatchSettings(
        input=(str(tmp_path / "*.txt"), str(tmp_path / "*.jsonl")),
        output=str(tmp_path / "results"),
        model=str(model),
        shard_bytes=100,
    )


def _results(output: str) -> list[dict[str, object]]:
    paths = sorted(Path(output).glob("part-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def test_results_are_in_the_order_of_the_input(settings: BatchSettings) -> None:
    summary = job.run(settings)
    assert summary.counts == job.Counts(texts=50, characters=sum(len(f"文{n} a text") for n in range(50)), entities=50)
    results = _results(settings.output)
    assert [result["text"] for result in results] == [f"文{number} a text" for number in range(50)]
    assert results[0]["entities"] == [{"start": 0, "end": 1, "type": "FIRST", "text": "文", "score": 0.5}]
    assert results[30]["id"] == "0"
    assert json.loads(Path(settings.output, "summary.json").read_text(encoding="utf-8"))["counts"]["texts"] == 50


def test_a_batch_is_continued(settings: BatchSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    first = job.run(settings)
    assert (first.taken_over, first.shards > 5) == (0, True)
    expected = _results(settings.output)
    # As after a kill: one shard without its state, another one without both.
    states = sorted(Path(settings.output, "state").iterdir())
    states[1].unlink()
    states[3].unlink()
    Path(settings.output, states[3].with_suffix(".jsonl").name).unlink()
    again = job.run(settings)
    assert again.taken_over == first.shards - 2
    assert _results(settings.output) == expected
    assert not list(Path(settings.output).rglob("*.tmp"))
    # Nothing is left to do, so no model is loaded.
    monkeypatch.setattr(job, "create_tagger", None)
    assert job.run(settings).taken_over == first.shards


def test_bad_lines_keep_their_place(
    settings: BatchSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": "x"}\n{"txt": "y"}\n{"text": ""}\n', encoding="utf-8")
    output = tmp_path / "bad"
    words = ["batch", "--input", str(tmp_path / "c.jsonl"), "--output", str(output), "--model", str(settings.model)]
    assert main([*words, "--direct_num_workers=1"]) == 1
    assert [sorted(result) for result in _results(str(output))] == [
        ["entities", "text"],
        ["error"],
        ["entities", "text"],
    ]
    assert "2 texts, 1 entities, 1 lines that could not be read" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["input", "model", "settings"])
def test_a_folder_of_another_batch_is_refused(
    settings: BatchSettings, model: Path, tmp_path: Path, change: str
) -> None:
    job.run(settings)
    if change == "input":
        (tmp_path / "d.txt").write_text("new\n", encoding="utf-8")
    changed = {
        "input": settings,
        "model": dataclasses.replace(settings, model=str(_other_model(tmp_path))),
        "settings": dataclasses.replace(settings, output_format="parquet"),
    }[change]
    with pytest.raises(BatchError, match=f"a batch with another {change}"):
        job.run(changed)


def _other_model(folder: Path) -> Path:
    module = _FirstCharacters()
    module.weight = tf.Variable(1.0)
    tf.saved_model.save(module, str(folder / "other"), signatures={features.SERVING_SIGNATURE: module.tag})
    return folder / "other"


def test_many_texts_of_different_lengths(model: Path) -> None:
    texts = ["x" * (number % 7) + str(number) for number in range(200)]
    tagged = SavedModelTagger(model_folder(str(model))).tag(texts)
    assert [entities[0].text for entities in tagged] == [text[0] for text in texts]


def test_the_newest_version_is_taken(model: Path) -> None:
    assert model_folder(str(model)).name == "10"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--model", "nowhere"], "expected a folder with saved_model.pb", id="no model"),
        pytest.param(["--target", "127.0.0.1:1", "--timeout", "0.5"], "127.0.0.1:1", id="no server"),
        pytest.param(["--model", "m", "--shard-bytes", "0"], "shard_bytes: expected a positive", id="no bytes"),
    ],
)
def test_mistakes_of_the_user(
    words: Sequence[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a\n", encoding="utf-8")
    assert main(["batch", "--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "o"), *words]) == 2
    assert message in capsys.readouterr().err


def test_model_and_target_exclude_each_other() -> None:
    with pytest.raises(SettingsError, match="exactly one of them"):
        BatchSettings(input=("a",), output="o", model="m", target="t")
