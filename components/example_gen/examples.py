"""Annotated text as tf.Example and back."""

from __future__ import annotations

import tensorflow as tf

from components import features
from components.annotated_text import AnnotatedText, Entity


def to_example(annotated: AnnotatedText) -> tf.train.Example:
    """Returns the example of an annotated text, with the features of `components.features`.

    A text without entities has the entity features with no value, not without them.
    """

    def text_feature(*values: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))

    def offset_feature(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    entities = annotated.entities
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                features.ID: text_feature(annotated.id),
                features.TEXT: text_feature(annotated.text),
                features.ENTITY_START: offset_feature(*(entity.start for entity in entities)),
                features.ENTITY_END: offset_feature(*(entity.end for entity in entities)),
                features.ENTITY_TYPE: text_feature(*(entity.type for entity in entities)),
                features.SOURCE: text_feature(annotated.source),
            }
        )
    )


def from_example(serialized: bytes) -> AnnotatedText:
    """Returns the annotated text of a serialized example; the inverse of `to_example`."""
    feature = tf.train.Example.FromString(serialized).features.feature

    def text_of(name: str) -> str:
        return feature[name].bytes_list.value[0].decode()

    entities = zip(
        feature[features.ENTITY_START].int64_list.value,
        feature[features.ENTITY_END].int64_list.value,
        (value.decode() for value in feature[features.ENTITY_TYPE].bytes_list.value),
        strict=True,
    )
    return AnnotatedText(
        text_of(features.ID),
        text_of(features.TEXT),
        tuple(Entity(start, end, entity_type) for start, end, entity_type in entities),
        text_of(features.SOURCE),
    )
