"""The Beam pipeline of batch tagging: shards in, one file of results for each, continued where it stopped.

A shard is done when its state file is there, which is written after its results, both under their final names only when
complete. The manifest says what the results belong to: a folder is continued for the same input and model only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from components.batch_tagging.records import Record, TaggedRecord, encode, is_json_lines, parse_line
from components.batch_tagging.settings import BatchSettings
from components.batch_tagging.shards import BatchError, InputFile, Shard, cut, find_files, read_lines
from components.batch_tagging.taggers import Tagger, create_tagger, model_digest, model_folder, served_version

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
STATE_FOLDER = "state"
ENDINGS = {"json_lines": ".jsonl", "parquet": ".parquet"}


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a shard, or a batch, came to."""

    texts: int = 0
    characters: int = 0
    entities: int = 0
    errors: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        counts: over all shards, those of earlier runs included.
        shards: number of all shards.
        taken_over: how many were done before this run.
        seconds: of this run.
    """

    counts: Counts
    shards: int
    taken_over: int
    seconds: float


def run(settings: BatchSettings, beam_options: Sequence[str] = ()) -> Summary:
    """Tags everything that is not tagged yet.

    Args:
        settings: what to tag.
        beam_options: options of Apache Beam, such as `--runner`.

    Raises:
        BatchError: no input, no model, or a folder with results of something else.
    """
    start = time.monotonic()
    settings = _resolved(settings)
    files = find_files(settings.input)
    shards = cut(files, settings.shard_bytes)
    _check_manifest(settings, files)
    pending = [shard for shard in shards if not FileSystems.exists(_state_path(settings, shard))]
    if pending:
        with beam.Pipeline(options=PipelineOptions(list(beam_options))) as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(pending)
                | "OneWorkerEach" >> beam.Reshuffle()
                | "Tag" >> beam.ParDo(TagShard(settings))
            )
    counts = sum((_read_counts(settings, shard) for shard in shards), Counts())
    summary = Summary(counts, len(shards), len(shards) - len(pending), time.monotonic() - start)
    _write(os.path.join(settings.output, SUMMARY), json.dumps(dataclasses.asdict(summary), indent=2).encode())
    return summary


class TagShard(beam.DoFn):
    """Shard -> nothing; its results and then its state are files."""

    def __init__(self, settings: BatchSettings) -> None:
        self._settings = settings
        # One model for all threads of a worker.
        self._shared = Shared()

    def process(self, shard: Shard) -> Iterator[Any]:
        """Tags a shard and writes its files."""
        settings = self._settings
        tagger = self._shared.acquire(lambda: create_tagger(settings))
        json_lines = is_json_lines(shard.path, settings.input_format)
        records = [
            parse_line(line, json_lines=json_lines, text_field=settings.text_field) for line in read_lines(shard)
        ]
        tagged = tag_records(records, tagger)
        _write(_result_path(settings, shard), encode(tagged, settings.output_format))
        counts = json.dumps({**dataclasses.asdict(count(tagged)), "shard": dataclasses.asdict(shard)})
        _write(_state_path(settings, shard), counts.encode())
        yield from ()


def tag_records(records: Sequence[Record], tagger: Tagger) -> list[TaggedRecord]:
    """Returns the records with their entities; records with errors are passed through."""
    good = [record for record in records if record.error is None]
    entities = iter(tagger.tag([record.text for record in good]))
    return [TaggedRecord(record, () if record.error is not None else next(entities)) for record in records]


def count(records: Sequence[TaggedRecord]) -> Counts:
    """Counts the results of a shard."""
    good = [tagged for tagged in records if tagged.record.error is None]
    return Counts(
        texts=len(good),
        characters=sum(len(tagged.record.text) for tagged in good),
        entities=sum(len(tagged.entities) for tagged in good),
        errors=len(records) - len(good),
    )


def _resolved(settings: BatchSettings) -> BatchSettings:
    """Settings that name one version: a batch must not change its model on the way."""
    if settings.model is not None:
        return dataclasses.replace(settings, model=str(model_folder(settings.model).resolve()))
    return dataclasses.replace(settings, model_version=served_version(settings))


def _check_manifest(settings: BatchSettings, files: Sequence[InputFile]) -> None:
    if settings.model is not None:
        model: dict[str, Any] = {"digest": model_digest(model_folder(settings.model))}
    else:
        model = {"target": settings.target, "name": settings.model_name, "version": settings.model_version}
    manifest = {
        "input": [dataclasses.asdict(file) for file in files],
        "model": model,
        "settings": {
            name: getattr(settings, name) for name in ("input_format", "text_field", "output_format", "shard_bytes")
        },
    }
    path = os.path.join(settings.output, MANIFEST)
    if not FileSystems.exists(path):
        _write(path, json.dumps(manifest, indent=2).encode())
        return
    with FileSystems.open(path) as file:
        earlier = json.load(file)
    for name, value in manifest.items():
        if earlier.get(name) != json.loads(json.dumps(value)):
            raise BatchError(
                f"--output {settings.output}: it has results of a batch with another {name}; continue that one, or "
                "choose another folder"
            )


def _result_path(settings: BatchSettings, shard: Shard) -> str:
    return os.path.join(settings.output, shard.name + ENDINGS[settings.output_format])


def _state_path(settings: BatchSettings, shard: Shard) -> str:
    return os.path.join(settings.output, STATE_FOLDER, shard.name + ".json")


def _read_counts(settings: BatchSettings, shard: Shard) -> Counts:
    with FileSystems.open(_state_path(settings, shard)) as file:
        values = json.load(file)
    return Counts(**{field.name: values[field.name] for field in dataclasses.fields(Counts)})


def _write(path: str, content: bytes) -> None:
    """Writes a file that appears under its name only when it is complete."""
    folder = os.path.dirname(path)
    if not FileSystems.exists(folder):
        try:
            FileSystems.mkdirs(folder)
        except OSError:
            # Another worker made it meanwhile.
            if not FileSystems.exists(folder):
                raise
    temporary = f"{path}.{os.getpid()}.{time.monotonic_ns()}.tmp"
    with FileSystems.create(temporary) as file:
        file.write(content)
    # Beam's rename refuses an existing target, which a worker that died between results and state leaves.
    if FileSystems.exists(path):
        FileSystems.delete([path])
    FileSystems.rename([temporary], [path])
