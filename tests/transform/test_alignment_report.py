from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from components import features
from components.transform.alignment_report import (
    SplitAlignment,
    alignment_report,
    describe_alignment,
    read_examples,
)


def example(text: str, entities: list[tuple[int, int, str]], unaligned: list[int], source: str) -> tf.train.Example:
    result = tf.train.Example()
    feature = result.features.feature
    feature[features.TEXT].bytes_list.value.append(text.encode())
    feature[features.SOURCE].bytes_list.value.append(source.encode())
    feature[features.ENTITY_START].int64_list.value.extend(start for start, _, _ in entities)
    feature[features.ENTITY_END].int64_list.value.extend(end for _, end, _ in entities)
    feature[features.ENTITY_TYPE].bytes_list.value.extend(kind.encode() for _, _, kind in entities)
    feature[features.UNALIGNED_ENTITY].int64_list.value.extend(unaligned)
    return result


TRAIN = [
    example("北京 在", [(0, 3, "LOC"), (3, 4, "X")], [0], "corpus:1"),
    example("nothing", [], [], "corpus:2"),
    example("abcdef", [(0, 1, "A"), (2, 3, "B"), (4, 5, "C")], [0, 1, 2], "corpus:3"),
]


def test_counts_and_first_places() -> None:
    assert alignment_report({"train": TRAIN, "dev": []}, shown=2) == {
        "train": SplitAlignment(5, 4, ("corpus:1: [0, 3) LOC '北京 '", "corpus:3: [0, 1) A 'a'")),
        "dev": SplitAlignment(0, 0, ()),
    }


def test_description() -> None:
    assert describe_alignment(alignment_report({"train": TRAIN, "dev": TRAIN[1:2]}, shown=1)).split("\n") == [
        "train: 4 of 5 entities cannot be aligned with word pieces",
        "  corpus:1: [0, 3) LOC '北京 '",
        "  and 3 more",
        "dev: 0 of 0 entities cannot be aligned with word pieces",
    ]


def test_reading_files(tmp_path: Path) -> None:
    for name, compression, examples in (("a-0", "", TRAIN[:1]), ("b-0.gz", "GZIP", TRAIN[1:])):
        with tf.io.TFRecordWriter(str(tmp_path / name), compression) as writer:
            for value in examples:
                writer.write(value.SerializeToString())
    assert list(read_examples(str(tmp_path / "*"))) == TRAIN
