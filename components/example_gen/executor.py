"""The work of ExampleGen, in Beam: read files, cut splits, count what was found."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from absl import logging
from google.protobuf import wrappers_pb2
from tfx import types
from tfx.components.example_gen import base_example_gen_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from components.annotated_text import AnnotatedText, AnnotationError
from components.example_gen.examples import to_example
from components.example_gen.reading import read_corpus
from components.example_gen.report import (
    Finding,
    Report,
    check_report,
    compare_occurrences,
    findings_of_text,
    make_report,
    occurrence,
)
from components.example_gen.settings import SPLITS, DataSettings, ReadingSettings
from components.example_gen.splits import cut_split
from components.settings import parse_settings, settings_to_json

REPORT_FILE = "report.json"
_FINDINGS_FILE = "findings.jsonl"
_FINDINGS_PROPERTY = "_findings"
_NOTES, _PROBLEMS, _TEXTS = "notes", "problems", "texts"


@dataclasses.dataclass(frozen=True)
class ExecutorSettings:
    """What the executor needs beside the files.

    Args:
        reading: how to read a file.
        cut: split -> share of train's texts, for the splits without a file of their own.
    """

    reading: ReadingSettings
    cut: Mapping[str, float]


def pack_settings(settings: DataSettings) -> example_gen_pb2.CustomConfig:
    """Returns the settings without the files, as the component's `custom_config`."""
    fractions = {"dev": settings.dev_fraction, "test": settings.test_fraction}
    cut = {name: fraction for name, fraction in fractions.items() if name not in settings.files}
    values = settings_to_json(ExecutorSettings(settings.reading, cut))
    packed = example_gen_pb2.CustomConfig()
    # A string, because a Struct would turn whole numbers into floats.
    packed.custom_config.Pack(wrappers_pb2.StringValue(value=json.dumps(values, sort_keys=True)))
    return packed


def unpack_settings(custom_config: str) -> ExecutorSettings:
    """Returns the settings in a `custom_config` as executors receive it: JSON of the message."""
    packed, value = example_gen_pb2.CustomConfig(), wrappers_pb2.StringValue()
    proto_utils.json_to_proto(custom_config, packed)
    packed.custom_config.Unpack(value)
    return parse_settings(ExecutorSettings, json.loads(value.value), "example_gen")


class Executor(base_example_gen_executor.BaseExampleGenExecutor):
    """Reads annotated text of any format into examples."""

    def GetInputSourceToExamplePTransform(self) -> beam.PTransform:  # noqa: N802
        """Not used: all files are read at once, see `GenerateExamplesByBeam`."""
        raise NotImplementedError("files are read by GenerateExamplesByBeam")

    def GenerateExamplesByBeam(  # noqa: N802
        self, pipeline: beam.Pipeline, exec_properties: dict[str, Any]
    ) -> dict[str, beam.pvalue.PCollection]:
        """Returns a PCollection of tf.Examples for each of the splits train, dev and test."""
        settings = unpack_settings(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        files = find_files(exec_properties)
        given = [(split, path) for split in SPLITS if split not in settings.cut for path in files[split]]
        read = (
            pipeline
            | "Files" >> beam.Create(given)
            | "OneWorkerEach" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(ReadFile(settings)).with_outputs(_NOTES, _PROBLEMS, main=_TEXTS)
        )
        texts = read[_TEXTS]
        numbers = texts | "Count" >> beam.FlatMapTuple(findings_of_text)
        repeated = (
            texts
            | "KeyByText" >> beam.MapTuple(occurrence)
            | "GroupByText" >> beam.GroupByKey()
            | "CompareOccurrences" >> beam.FlatMap(_compare)
        )
        (
            (numbers, repeated, read[_NOTES], read[_PROBLEMS])
            | "Findings" >> beam.Flatten()
            | "CountFindings" >> beam.combiners.Count.PerElement()
            | "FindingToJson" >> beam.MapTuple(lambda finding, count: json.dumps([*finding, count]))
            | "WriteFindings"
            >> beam.io.WriteToText(exec_properties[_FINDINGS_PROPERTY], num_shards=1, shard_name_template="")
        )
        parts = texts | "Splits" >> beam.Partition(_split_number, len(SPLITS))
        return {
            split: part | f"ToExample[{split}]" >> beam.MapTuple(_to_example)
            for split, part in zip(SPLITS, parts, strict=True)
        }

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples and the report.

        Raises:
            AnnotationError: a file cannot be read or breaks a rule, or a split has no text or no entity.
        """
        artifact = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        findings_path = os.path.join(artifact.uri, _FINDINGS_FILE)
        super().Do(input_dict, output_dict, {**exec_properties, _FINDINGS_PROPERTY: findings_path})
        findings = _read_findings(findings_path)
        fileio.remove(findings_path)
        problems = sorted(key for kind, key in findings if kind == "problem")
        if problems:
            raise AnnotationError("\n".join(problems))
        report = make_report(findings)
        with fileio.open(os.path.join(artifact.uri, REPORT_FILE), "w") as file:
            file.write(json.dumps(dataclasses.asdict(report), ensure_ascii=False, indent=2))
        for sentence in report.sentences():
            logging.info("%s", sentence)
        check_report(report, find_files(exec_properties))
        _publish(report, artifact)


@beam.typehints.with_output_types(tuple[str, Any])
class ReadFile(beam.DoFn):
    """(split, path) -> (split, text) for each text, and findings: notes, and problems instead of exceptions.

    Problems travel as data because a runner turns a worker's exception into text of its own, and because so one run
    shows the problems of all files.
    """

    def __init__(self, settings: ExecutorSettings) -> None:
        self._settings = settings

    def process(self, element: tuple[str, str]) -> Iterator[Any]:
        """Yields the texts of one file."""
        split, path = element
        try:
            corpus = read_corpus(path, self._settings.reading)
        except AnnotationError as error:
            yield beam.pvalue.TaggedOutput(_PROBLEMS, ("problem", str(error)))
            return
        for note in corpus.notes:
            yield beam.pvalue.TaggedOutput(_NOTES, ("note", f"{path}: {note}"))
        cut = self._settings.cut if split == "train" else {}
        for annotated in corpus.texts:
            yield (
                cut_split(annotated.text, dev_fraction=cut.get("dev", 0.0), test_fraction=cut.get("test", 0.0))
                if cut
                else split,
                annotated,
            )


def find_files(exec_properties: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns split -> files that its pattern matches.

    Raises:
        AnnotationError: a pattern matches no file.
    """
    input_config = example_gen_pb2.Input()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.INPUT_CONFIG_KEY], input_config)
    base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
    files = {}
    for split in input_config.splits:
        pattern = os.path.join(base, split.pattern)
        files[split.name] = sorted(fileio.glob(pattern))
        if not files[split.name]:
            raise AnnotationError(
                f"{pattern}: there is no such file for the split {split.name}; check data.{split.name}"
            )
    return files


def _split_number(element: tuple[str, AnnotatedText], number_of_splits: int) -> int:
    del number_of_splits
    return SPLITS.index(element[0])


def _to_example(split: str, annotated: AnnotatedText) -> bytes:
    del split
    return to_example(annotated).SerializeToString(deterministic=True)


def _compare(element: tuple[str, Iterable[tuple[str, str]]]) -> list[Finding]:
    return compare_occurrences(element[1])


def _read_findings(path: str) -> dict[Finding, int]:
    with fileio.open(path, "r") as file:
        return {(kind, key): count for kind, key, count in map(json.loads, file.read().splitlines())}


def _publish(report: Report, artifact: types.Artifact) -> None:
    for split in SPLITS:
        artifact.set_int_custom_property(f"texts_{split}", report.texts[split])
        artifact.set_int_custom_property(f"entities_{split}", sum(report.entities[split].values()))
    artifact.set_int_custom_property("leaked_texts", sum(report.leaks.values()))
    artifact.set_int_custom_property("contradictory_texts", report.contradictions)
