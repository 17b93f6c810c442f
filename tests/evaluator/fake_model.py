"""A tiny exported model whose predictions a test writes into the examples, and such examples."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence

import tensorflow as tf

from components import features
from components.annotated_text import Entity

# One text: its gold entities and the entities that the model predicts.
Annotated = tuple[Sequence[Entity], Sequence[Entity]]


def cell(entity: Entity) -> str:
    return f"{entity.start}\t{entity.end}\t{entity.type}"


def serialized_example(index: int, gold: Iterable[Entity], predicted: Iterable[Entity]) -> bytes:
    """The feature `source` carries what the model is to predict, one entity a line."""
    gold = list(gold)

    def strings(values: Iterable[str]) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))

    def integers(values: Iterable[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=list(values)))

    example = tf.train.Example(
        features=tf.train.Features(
            feature={
                features.ID: strings([str(index)]),
                features.TEXT: strings(["某甲在北京。"]),
                features.SOURCE: strings(["\n".join(cell(entity) for entity in predicted)]),
                features.ENTITY_START: integers(entity.start for entity in gold),
                features.ENTITY_END: integers(entity.end for entity in gold),
                features.ENTITY_TYPE: strings(entity.type for entity in gold),
            }
        )
    )
    return example.SerializeToString(deterministic=True)


def write_split(folder: pathlib.Path, texts: Sequence[Annotated]) -> None:
    folder.mkdir(parents=True)
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(folder / "data_tfrecord-00000-of-00001.gz"), options) as writer:
        for index, (gold, predicted) in enumerate(texts):
            writer.write(serialized_example(index, gold, predicted))


def export_model(folder: pathlib.Path, *, mute: bool = False, scores: bool = True) -> pathlib.Path:
    """Exports a model with the signature `examples` and nothing else; a mute model predicts nothing.

    Its scores are 0.75; models that were trained before there were scores here return none.
    """

    class FakeModel(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.EXAMPLES)])
        def examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
            parsed = tf.io.parse_example(
                examples,
                {
                    features.SOURCE: tf.io.FixedLenFeature([], tf.string),
                    features.ENTITY_START: tf.io.RaggedFeature(tf.int64),
                    features.ENTITY_END: tf.io.RaggedFeature(tf.int64),
                    features.ENTITY_TYPE: tf.io.RaggedFeature(tf.string),
                },
            )
            start, end, types = (
                parsed[name] for name in (features.ENTITY_START, features.ENTITY_END, features.ENTITY_TYPE)
            )
            flat = tf.strings.join(
                [tf.strings.as_string(start.flat_values), tf.strings.as_string(end.flat_values), types.flat_values],
                "\t",
            )
            predicted = tf.strings.split(
                tf.zeros_like(parsed[features.SOURCE]) if mute else parsed[features.SOURCE], "\n"
            )
            cells = predicted.to_tensor("")
            score = tf.where(tf.equal(cells, ""), 0.0, 0.75)
            return {
                features.GOLD_ENTITIES: types.with_flat_values(flat).to_tensor(""),
                features.PREDICTED_ENTITIES: predicted.to_tensor(""),
            } | ({features.PREDICTED_SCORE: score} if scores else {})

    model = FakeModel()
    tf.saved_model.save(model, str(folder), signatures={features.EXAMPLES_SIGNATURE: model.examples})
    return folder
