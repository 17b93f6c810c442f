"""How many entities word pieces can express, and where those stand that they cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import tensorflow as tf

from components import features


@dataclasses.dataclass(frozen=True)
class SplitAlignment:
    """The alignment of one split.

    Args:
        entities: how many gold entities it has.
        unaligned: how many of them no run of word pieces covers exactly, or have a type unseen in training: a strict
            score counts them as missed whatever the model does.
        first_unaligned: the first few, each as `source: [start, end) type 'surface'`.
    """

    entities: int
    unaligned: int
    first_unaligned: tuple[str, ...]


def alignment_report(splits: Mapping[str, Iterable[tf.train.Example]], *, shown: int = 5) -> dict[str, SplitAlignment]:
    """Counts the entities of transformed examples.

    Args:
        splits: the transformed examples of each split.
        shown: how many unaligned entities to describe, for each split.
    """
    return {name: _split_alignment(examples, shown) for name, examples in splits.items()}


def describe_alignment(report: Mapping[str, SplitAlignment]) -> str:
    """Returns the report as text, a line a split and a line for each entity described; no line break at the end."""
    lines = []
    for name, split in report.items():
        lines.append(f"{name}: {split.unaligned} of {split.entities} entities cannot be aligned with word pieces")
        lines.extend(f"  {place}" for place in split.first_unaligned)
        if split.unaligned > len(split.first_unaligned) > 0:
            lines.append(f"  and {split.unaligned - len(split.first_unaligned)} more")
    return "\n".join(lines)


def read_examples(pattern: str) -> Iterator[tf.train.Example]:
    """Yields the examples of the TFRecord files that match `pattern`; those named `*.gz` are unzipped."""
    for path in sorted(tf.io.gfile.glob(pattern)):
        for record in tf.data.TFRecordDataset(path, compression_type="GZIP" if path.endswith(".gz") else ""):
            yield tf.train.Example.FromString(record.numpy())


def _split_alignment(examples: Iterable[tf.train.Example], shown: int) -> SplitAlignment:
    entities = unaligned = 0
    places: list[str] = []
    for example in examples:
        feature = example.features.feature
        entities += len(feature[features.ENTITY_START].int64_list.value)
        indices = feature[features.UNALIGNED_ENTITY].int64_list.value
        unaligned += len(indices)
        places.extend(_describe(example, index) for index in indices[: shown - len(places)])
    return SplitAlignment(entities, unaligned, tuple(places))


def _describe(example: tf.train.Example, index: int) -> str:
    feature = example.features.feature
    start = feature[features.ENTITY_START].int64_list.value[index]
    end = feature[features.ENTITY_END].int64_list.value[index]
    entity_type = feature[features.ENTITY_TYPE].bytes_list.value[index].decode()
    text = feature[features.TEXT].bytes_list.value[0].decode("utf-8", "replace")
    source = b"".join(feature[features.SOURCE].bytes_list.value).decode("utf-8", "replace")
    return f"{source}: [{start}, {end}) {entity_type} {text[start:end]!r}"
