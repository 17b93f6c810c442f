"""ExampleGen in a pipeline."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import tensorflow as tf
from tfx import types
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import proto_utils

from components.annotated_text import AnnotatedText, AnnotationError, Entity
from components.example_gen.component import AnnotatedTextExampleGen
from components.example_gen.errors import annotation_error_text
from components.example_gen.examples import from_example, to_example
from components.example_gen.executor import ExecutorSettings, unpack_settings
from components.example_gen.reading import read_corpus
from components.example_gen.settings import DataSettings, ReadingSettings


def write_corpus(path: Path, *texts: str) -> str:
    """Writes JSON lines; the first character of each text is an entity."""
    records = [{"text": text, "entities": [{"start": 0, "end": 1, "type": "P"}]} for text in texts]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return str(path)


def connection(root: Path) -> Any:
    return metadata.sqlite_metadata_connection_config(str(root / "metadata.db"))


def run_pipeline(root: Path, settings: DataSettings) -> types.Artifact:
    """Runs ExampleGen, and returns the newest examples."""
    example_gen = AnnotatedTextExampleGen(settings)
    root.mkdir(parents=True, exist_ok=True)
    LocalDagRunner().run(
        pipeline.Pipeline(
            "test",
            str(root),
            components=[example_gen],
            enable_cache=True,
            metadata_connection_config=connection(root),
        )
    )
    with metadata.Metadata(connection(root)) as handle:
        found = handle.store.get_artifacts_by_type("Examples")
    artifact = standard_artifacts.Examples()
    artifact.set_mlmd_artifact(found[-1])
    return artifact


def read_texts(artifact: types.Artifact) -> dict[str, list[AnnotatedText]]:
    texts = {}
    for split in artifact_utils.decode_split_names(artifact.split_names):
        files = tf.io.gfile.glob(f"{artifact_utils.get_split_uri([artifact], split)}/*")
        dataset = tf.data.TFRecordDataset(files, compression_type="GZIP")
        texts[split] = [from_example(record) for record in dataset.as_numpy_iterator()]
    return texts


def names(texts: list[AnnotatedText]) -> set[str]:
    return {annotated.text for annotated in texts}


@pytest.mark.parametrize(
    "annotated",
    [
        pytest.param(AnnotatedText("7", "张三😀", (Entity(0, 2, "人"),), "a:1"), id="an entity"),
        pytest.param(AnnotatedText("8", "", (), "a:2"), id="empty text"),
    ],
)
def test_examples_have_all_features(annotated: AnnotatedText) -> None:
    example = to_example(annotated)
    assert all(feature.WhichOneof("kind") for feature in example.features.feature.values())
    assert sorted(example.features.feature) == ["entity_end", "entity_start", "entity_type", "id", "source", "text"]
    assert from_example(example.SerializeToString()) == annotated


TRAIN_TEXTS = [f"甲第{number}句" for number in range(120)]


@pytest.mark.parametrize(
    "given", [(), ("dev",), ("test",), ("dev", "test")], ids=lambda given: "+".join(("train", *given))
)
def test_given_splits_are_kept_and_the_others_cut(tmp_path: Path, given: tuple[str, ...]) -> None:
    # The folders' names are patterns to those who do not escape them.
    train = write_corpus(tmp_path / "a [x]*" / "train?.jsonl", *TRAIN_TEXTS, *TRAIN_TEXTS[:40])
    write_corpus(tmp_path / "a x" / "train1.jsonl", "decoy")
    others = {name: write_corpus(tmp_path / name / "x.jsonl", f"乙{name}一", f"乙{name}二") for name in given}
    artifact = run_pipeline(tmp_path / "run", DataSettings(train=train, dev_fraction=0.2, test_fraction=0.2, **others))
    texts = read_texts(artifact)
    assert list(texts) == ["train", "dev", "test"]
    for name in given:
        assert names(texts[name]) == {f"乙{name}一", f"乙{name}二"}
    cut = {name: names(texts[name]) for name in texts if name not in given}
    assert set().union(*cut.values()) == set(TRAIN_TEXTS)
    # Duplicates never straddle splits, and none is lost.
    assert sum(map(len, cut.values())) == len(TRAIN_TEXTS)
    assert sum(len(texts[name]) for name in cut) == len(TRAIN_TEXTS) + 40
    for name in cut:
        assert len(cut[name]) >= 10
    (first,) = [annotated for annotated in texts["train"] if annotated.source.endswith(":1")] or [texts["train"][0]]
    assert first.source.startswith(f"{train}:")
    assert artifact.get_int_custom_property("leaked_texts") == 0


def test_leaks_and_contradictions_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = write_corpus(tmp_path / "train.jsonl", "一", "二", "三", "三")
    dev = write_corpus(tmp_path / "dev.jsonl", "二", "四")
    test = tmp_path / "test.jsonl"
    test.write_text(
        '{"text": "二二", "entities": [{"start": 0, "end": 2, "type": "P"}]}\n{"text": "一", "entities": []}\n'
    )
    with caplog.at_level("INFO", logger="absl"):
        artifact = run_pipeline(tmp_path / "run", DataSettings(train, dev, str(test)))
    assert artifact.get_int_custom_property("leaked_texts") == 2
    assert artifact.get_int_custom_property("contradictory_texts") == 1
    assert artifact.get_int_custom_property("texts_train") == 4
    assert artifact.get_int_custom_property("entities_test") == 1
    assert {name: len(texts) for name, texts in read_texts(artifact).items()} == {"train": 4, "dev": 2, "test": 2}
    report = json.loads((Path(artifact.uri) / "report.json").read_text(encoding="utf-8"))
    assert report["leaks"] == {"train, dev": 1, "train, test": 1, "dev, test": 0}
    assert sorted(os.listdir(artifact.uri)) == ["Split-dev", "Split-test", "Split-train", "report.json"]
    assert "1 texts stand in both of train, dev" in caplog.text


def test_the_cache_sees_contents(tmp_path: Path) -> None:
    train, root = tmp_path / "train.jsonl", tmp_path / "run"
    others = [write_corpus(tmp_path / name, "二") for name in ("dev.jsonl", "test.jsonl")]
    write_corpus(train, "一")
    settings = DataSettings(str(train), *others)
    first = run_pipeline(root, settings)
    before = train.stat()
    assert run_pipeline(root, settings).uri == first.uri
    # The same size at the same time: only the contents tell.
    write_corpus(train, "丁")
    os.utime(train, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert train.stat().st_size == before.st_size
    second = run_pipeline(root, settings)
    assert second.uri != first.uri
    assert names(read_texts(second)["train"]) == {"丁"}
    # So do settings.
    assert run_pipeline(root, DataSettings(str(train), *others, ignore_types=("X",))).uri != second.uri


def test_the_latest_span_is_taken(tmp_path: Path) -> None:
    for span in (1, 2, 10):
        for name in ("train", "test"):
            write_corpus(
                tmp_path / f"span-{span}" / f"{name}.jsonl", *(f"{span}{name}{number}" for number in range(30))
            )
    paths = [str(tmp_path / "span-{SPAN}" / f"{name}.jsonl") for name in ("train", "test")]
    artifact = run_pipeline(tmp_path / "run", DataSettings(train=paths[0], test=paths[1], dev_fraction=0.3))
    texts = read_texts(artifact)
    assert names(texts["test"]) == {f"10test{number}" for number in range(30)}
    assert names(texts["train"]) | names(texts["dev"]) == {f"10train{number}" for number in range(30)}
    assert artifact.mlmd_artifact.custom_properties["span"].int_value == 10


def test_problems_of_all_files_come_in_one_clean_error(tmp_path: Path) -> None:
    train = write_corpus(tmp_path / "train.jsonl", "一")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a"}\n{"text": "a", "label": [[0, 9, "P"]]}\n')
    worse = tmp_path / "worse.conll"
    worse.write_bytes(b"a O\n\xff O\n")
    with pytest.raises(Exception, match=r"bad\.jsonl") as caught:
        run_pipeline(tmp_path / "run", DataSettings(train, str(bad), str(worse)))
    text = annotation_error_text(caught.value)
    assert text is not None
    lines = text.split("\n")
    assert lines[0] == f"{bad}: 2 problems"
    assert lines[1].startswith(f"{bad}:1: the object has none of the keys")
    assert lines[2].startswith(f"{bad}:2: the span [0, 9) P is outside the text, which has 1 code points")
    assert lines[3].startswith(f"{worse}:2: byte 4 (0xff) is not utf-8")


@pytest.mark.parametrize(
    ("test_file", "message"),
    [
        pytest.param('{"text": "a", "entities": []}', "the split test has 1 texts and no entity", id="no entity"),
        pytest.param("", "the corpus is empty", id="empty file"),
        pytest.param(None, "there is no such file for the split test; check data.test", id="no file"),
    ],
)
def test_a_split_that_cannot_be_used_stops_the_run(tmp_path: Path, test_file: str | None, message: str) -> None:
    train, dev = (write_corpus(tmp_path / name, "一") for name in ("train.jsonl", "dev.jsonl"))
    test = tmp_path / "test.jsonl"
    if test_file is not None:
        test.write_text(test_file)
    with pytest.raises(AnnotationError, match=message):
        run_pipeline(tmp_path / "run", DataSettings(train, dev, str(test)))


def test_kubeflow_finds_the_parameters_its_driver_needs() -> None:
    settings = DataSettings("/data/{SPAN}/train.jsonl", ignore_types=("OTH",), tag_column=2, test_fraction=0.2)
    spec = AnnotatedTextExampleGen(settings).spec
    assert spec.exec_properties["input_base"] == "/data"
    patterns = {split.name: split.pattern for split in proto_of(spec.exec_properties["input_config"]).splits}
    assert patterns == dict.fromkeys(("train", "dev", "test"), "{SPAN}/train.jsonl")
    custom_config = spec.exec_properties["custom_config"]
    text = custom_config if isinstance(custom_config, str) else proto_utils.proto_to_json(custom_config)
    reading = ReadingSettings(ignore_types=("OTH",), tag_column=2)
    assert unpack_settings(text) == ExecutorSettings(reading, {"dev": 0.1, "test": 0.2})


def proto_of(value: Any) -> Any:
    from tfx.proto import example_gen_pb2

    return proto_utils.json_to_proto(value, example_gen_pb2.Input()) if isinstance(value, str) else value


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_an_annotation_error_is_found_in_what_beam_raises(tmp_path: Path, mode: str) -> None:
    bad = tmp_path / "[while running 'x'].jsonl"
    bad.write_text('{"text": "a"}\n{"text": "a\\n\\nb", "label": [[0, 9, "P"]]}\n')
    options = beam.options.pipeline_options.PipelineOptions(
        ["--runner=DirectRunner", f"--direct_running_mode={mode}", "--direct_num_workers=1"]
    )
    with pytest.raises(AnnotationError) as direct:
        read_corpus(str(bad))
    with pytest.raises((AnnotationError, RuntimeError)) as caught, beam.Pipeline(options=options) as p:
        _ = p | beam.Create([str(bad)]) | "Fail" >> beam.Map(read_corpus)
    assert annotation_error_text(caught.value) == str(direct.value)


def test_other_errors_are_none() -> None:
    assert annotation_error_text(RuntimeError("disk full")) is None
    try:
        try:
            raise AnnotationError("a:1: bad")
        except AnnotationError as error:
            raise RuntimeError("wrapped") from error
    except RuntimeError as error:
        wrapped = error
    assert annotation_error_text(wrapped) == "a:1: bad"
