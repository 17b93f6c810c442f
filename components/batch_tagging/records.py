"""Lines into texts, results into JSON lines or Parquet; one record for each line, in order, also for bad lines."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

_BYTE_ORDER_MARK = "\ufeff"


@dataclasses.dataclass(frozen=True)
class Record:
    """A line of the input: its text and id, or why it has none."""

    text: str = ""
    id: str | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class TaggedEntity:
    """An entity: code points of the text, end exclusive, the type, the text and the model's score."""

    start: int
    end: int
    type: str
    text: str
    score: float


@dataclasses.dataclass(frozen=True)
class TaggedRecord:
    """A record and the entities of its text."""

    record: Record
    entities: tuple[TaggedEntity, ...] = ()


def is_json_lines(path: str, input_format: str) -> bool:
    """Whether the lines of `path` are JSON objects; `auto` goes by the ending."""
    if input_format != "auto":
        return input_format == "json_lines"
    return path.removesuffix(".gz").removesuffix(".bz2").endswith((".jsonl", ".json", ".ndjson"))


def parse_line(line: bytes, *, json_lines: bool, text_field: str = "text") -> Record:
    """Returns the record of a line; a line that cannot be read becomes a record with an error.

    Example:
        >>> parse_line(b'{"id": 7, "text": "a"}', json_lines=True)
        Record(text='a', id='7', error=None)
    """
    try:
        text = line.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        return Record(error=f"expected UTF-8; byte {error.start + 1} of the line is not")
    if not json_lines:
        return Record(text)
    try:
        value = json.loads(text)
    except ValueError as error:
        return Record(error=f"expected a JSON object: {error}")
    if not isinstance(value, dict) or not isinstance(value.get(text_field), str):
        return Record(error=f"expected a JSON object with a string in {text_field!r}")
    identifier = value.get("id")
    return Record(value[text_field], None if identifier is None else str(identifier))


def encode(records: Sequence[TaggedRecord], output_format: str) -> bytes:
    """Returns the content of a file of results.

    JSON lines: `{"id", "text", "entities": [{"start", "end", "type", "text", "score"}]}`, without `id` where the input
    has none, and with `error` in place of text and entities for a line that could not be read. Parquet has the same
    columns, with nulls.
    """
    if output_format == "json_lines":
        lines = (json.dumps(_to_json(record), ensure_ascii=False) + "\n" for record in records)
        # A lone surrogate, which JSON can escape, has no UTF-8 form.
        return "".join(lines).encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode("utf-8")
    return _to_parquet(records)


def _to_json(tagged: TaggedRecord) -> dict[str, Any]:
    record = tagged.record
    values: dict[str, Any] = {} if record.id is None else {"id": record.id}
    if record.error is not None:
        return {**values, "error": record.error}
    return {**values, "text": record.text, "entities": [_entity_values(entity) for entity in tagged.entities]}


def _entity_values(entity: TaggedEntity) -> dict[str, Any]:
    # float32 has about 7 significant digits; the rest is noise of the conversion.
    return {**dataclasses.asdict(entity), "score": float(f"{entity.score:.7g}")}


def _to_parquet(records: Sequence[TaggedRecord]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    entity = pyarrow.struct(
        [
            ("start", pyarrow.int32()),
            ("end", pyarrow.int32()),
            ("type", pyarrow.string()),
            ("text", pyarrow.string()),
            ("score", pyarrow.float32()),
        ]
    )
    schema = pyarrow.schema(
        [
            ("id", pyarrow.string()),
            ("text", pyarrow.string()),
            ("entities", pyarrow.list_(entity)),
            ("error", pyarrow.string()),
        ]
    )
    rows = [{"id": None, "text": None, "entities": None, "error": None, **_to_json(record)} for record in records]
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), stream)
    return stream.getvalue()
