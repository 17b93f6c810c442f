"""Schema and validation of the examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.statistics_gen.executor import Executor as StatisticsExecutor
from tfx.types import artifact_utils, standard_artifacts

from components import features
from components.annotated_text import AnnotatedText, AnnotationError, Entity
from components.example_gen.examples import to_example
from components.validation import executor, schema
from components.validation.anomalies import add_entity_anomalies, describe_anomalies
from components.validation.component import make_validation_components
from components.validation.schema import PackagedSchema, read_schema

Change = Callable[[tf.train.Example], None]


def example(text: str = "张三在北京", entities: tuple[Entity, ...] = (Entity(0, 2, "PER"),)) -> tf.train.Example:
    return to_example(AnnotatedText("1", text, entities, "a:1"))


def write_examples(artifact: types.Artifact, split: str, examples: list[tf.train.Example]) -> None:
    path = Path(artifact_utils.get_split_uri([artifact], split))
    path.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
        for one in examples:
            writer.write(one.SerializeToString())


def validate(tmp_path: Path, splits: dict[str, list[tf.train.Example]]) -> types.Artifact:
    """Runs the executors of StatisticsGen, the schema and the validator, and returns the anomalies."""
    examples, statistics, schemas, anomalies = (
        standard_artifacts.Examples(),
        standard_artifacts.ExampleStatistics(),
        standard_artifacts.Schema(),
        standard_artifacts.ExampleAnomalies(),
    )
    for name, artifact in (("e", examples), ("st", statistics), ("sc", schemas), ("a", anomalies)):
        artifact.uri = str(tmp_path / name)
        (tmp_path / name).mkdir()
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    for split, records in splits.items():
        write_examples(examples, split, records)
    properties = {"exclude_splits": "[]", "sharded_stats_output": 0}
    StatisticsExecutor().Do({"examples": [examples]}, {"statistics": [statistics]}, properties)
    schema.Executor().Do({}, {"schema": [schemas]}, PackagedSchema().spec.exec_properties)
    inputs = {"statistics": [statistics], "schema": [schemas]}
    try:
        executor.Executor().Do(inputs, {"anomalies": [anomalies]}, {"exclude_splits": "[]"})
    finally:
        # The artifact is there also when the run stops.
        for split in splits:
            assert (Path(anomalies.uri) / f"Split-{split}" / "SchemaDiff.pb").is_file()
    return anomalies


def test_good_examples_pass(tmp_path: Path) -> None:
    splits = {"train": [example(), example("", ())], "test": [example("没有", ()), example()]}
    anomalies = validate(tmp_path, splits)
    assert anomalies.get_json_value_custom_property("blessed") == {"train": 1, "test": 1}


def remove(name: str) -> Change:
    def change(one: tf.train.Example) -> None:
        del one.features.feature[name]

    return change


def set_values(name: str, values: list[int] | list[bytes]) -> Change:
    def change(one: tf.train.Example) -> None:
        feature = one.features.feature[name]
        target = feature.int64_list if isinstance(values[0], int) else feature.bytes_list
        target.value[:] = values

    return change


CASES = [
    pytest.param(remove(features.TEXT), ["feature text: Multiple errors", "present in fewer examples"], id="no text"),
    pytest.param(remove(features.ENTITY_TYPE), ["feature entity_type: Column dropped"], id="no types"),
    pytest.param(set_values(features.TEXT, [b"a", b"b"]), ["feature text: Feature shape dropped"], id="two texts"),
    pytest.param(
        set_values(features.ENTITY_START, [-1]), ["feature entity_start: Out-of-range values", "-1"], id="negative"
    ),
    pytest.param(
        set_values(features.ENTITY_START, [0, 1]),
        ["feature entity_start: Entity features do not align", "entity_end 2, entity_start 3, entity_type 2"],
        id="more starts than ends",
    ),
    pytest.param(set_values("rank", [1]), ["feature rank: New column"], id="unknown feature"),
]


@pytest.mark.parametrize(("change", "expected"), CASES)
def test_anomalies(tmp_path: Path, change: Change, expected: list[str]) -> None:
    changed = example()
    change(changed)
    path = str(tmp_path / "data")
    with tf.io.TFRecordWriter(path) as writer:
        for one in (changed, example()):
            writer.write(one.SerializeToString())
    statistics = tfdv.generate_statistics_from_tfrecord(path)
    anomalies = tfdv.validate_statistics(statistics, read_schema())
    add_entity_anomalies(statistics, anomalies)
    text = "\n".join(describe_anomalies({"dev": anomalies}))
    assert text.startswith("split dev, ")
    assert [part for part in expected if part not in text] == []


def test_an_anomaly_stops_the_run_with_its_text(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError) as caught:
        validate(tmp_path, {"train": [example()], "test": [example("没有", ()), example("", ())]})
    lines = str(caught.value).split("\n")
    assert lines[0] == "the examples break the schema in 2 ways:"
    assert "split test, feature entity_type: No entities: None of the 2 texts has an entity." in lines[2]
    assert lines[-1].endswith(f"the anomalies are in {tmp_path / 'a'}")


def test_anomalies_of_the_whole_data_set_are_described() -> None:
    anomalies = anomalies_pb2.Anomalies()
    anomalies.dataset_anomaly_info.short_description = "Low num examples"
    anomalies.dataset_anomaly_info.description = "The dataset has 1 examples"
    assert describe_anomalies({"train": anomalies}) == [
        "split train, dataset: Low num examples: The dataset has 1 examples"
    ]


def test_the_schema_knows_every_feature() -> None:
    names = {feature.name for feature in read_schema().feature}
    assert names == set(example().features.feature)


def test_another_schema_than_the_pipeline_was_built_with_is_refused() -> None:
    with pytest.raises(RuntimeError, match="built with another annotated_text"):
        schema.Executor().Do({}, {}, {"schema_hash": "0"})


def test_node_ids_suit_kubeflow() -> None:
    channel = types.Channel(type=standard_artifacts.Examples)
    components = make_validation_components(channel)
    assert [component.id for component in components] == ["StatisticsGen", "PackagedSchema", "ExampleValidator"]
