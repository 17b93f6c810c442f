"""Settings of batch tagging: what to read, where to write, which model answers."""

from __future__ import annotations

import dataclasses
from typing import Literal

from components.settings import check


@dataclasses.dataclass(frozen=True)
class BatchSettings:
    """A batch of texts to tag.

    Args:
        input: files or patterns such as `data/*.txt`; gzip by its ending `.gz`.
        output: folder of the results; one with results of the same batch is continued.
        model: folder of an exported tagger, or of its versions; the workers load it. None if `target` answers.
        target: "host:port" of a model server; None if the workers load `model`.
        model_name: name of the model on the server.
        model_version: version on the server; None takes the newest at the start, and keeps to it.
        timeout: seconds that one request to the server may take, its retries included.
        input_format: `text`, one text a line; `json_lines`, an object a line; `auto`, by the file's ending.
        text_field: field of the objects that holds the text; `id` is copied if it is there.
        output_format: `json_lines` or `parquet`.
        shard_bytes: bytes of input that one worker takes at a time, the unit in which a batch is continued.

    Raises:
        SettingsError: a value is impossible, or not exactly one of `model` and `target` is given.
    """

    input: tuple[str, ...]
    output: str
    model: str | None = None
    target: str | None = None
    model_name: str = "ner"
    model_version: int | None = None
    timeout: float = 30.0
    input_format: Literal["auto", "text", "json_lines"] = "auto"
    text_field: str = "text"
    output_format: Literal["json_lines", "parquet"] = "json_lines"
    shard_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        check(bool(self.input) and all(self.input), "input", "files or patterns", self.input)
        check(bool(self.output), "output", "a folder", self.output)
        one = (self.model is None) != (self.target is None)
        check(one, "model, target", "exactly one of them", (self.model, self.target))
        check(bool(self.model_name), "model_name", "the name of a model", self.model_name)
        inputs, outputs = ("auto", "text", "json_lines"), ("json_lines", "parquet")
        check(self.input_format in inputs, "input_format", ", ".join(inputs), self.input_format)
        check(self.timeout > 0, "timeout", "a positive number of seconds", self.timeout)
        check(bool(self.text_field), "text_field", "the name of a field", self.text_field)
        check(self.output_format in outputs, "output_format", ", ".join(outputs), self.output_format)
        check(self.shard_bytes > 0, "shard_bytes", "a positive number of bytes", self.shard_bytes)
