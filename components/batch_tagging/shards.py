"""Shards of the input: ranges of bytes, each with the lines that begin in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from apache_beam.io.filesystems import FileSystems

_COMPRESSED = (".gz", ".bz2")


class BatchError(RuntimeError):
    """Raised when a batch cannot be tagged; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file of the input: its path, its size in bytes, and when it was changed, in seconds."""

    path: str
    size: int
    changed: float

    @property
    def is_compressed(self) -> bool:
        """Whether it must be read from its beginning."""
        return self.path.endswith(_COMPRESSED)


@dataclasses.dataclass(frozen=True)
class Shard:
    """The lines of `path` that begin in the bytes `start` to `end`, end exclusive; None reads to the end.

    `number` counts the shards of the whole input, so results in its order are in the order of the input.
    """

    number: int
    path: str
    start: int
    end: int | None

    @property
    def name(self) -> str:
        """Name of the results, without ending."""
        return f"part-{self.number:05}"


def find_files(patterns: Sequence[str]) -> list[InputFile]:
    """Returns the files that match any of `patterns`, sorted by path.

    Raises:
        BatchError: a pattern matches no file.
    """
    found: dict[str, InputFile] = {}
    for pattern, result in zip(patterns, FileSystems.match(list(patterns)), strict=True):
        files = [
            InputFile(item.path, item.size_in_bytes, item.last_updated_in_seconds) for item in result.metadata_list
        ]
        if not files:
            raise BatchError(f"--input {pattern!r}: no such file")
        found |= {file.path: file for file in files}
    return [found[path] for path in sorted(found)]


def cut(files: Sequence[InputFile], shard_bytes: int) -> list[Shard]:
    """Cuts files into shards of about `shard_bytes`; compressed files stay whole.

    Example:
        >>> [(shard.start, shard.end) for shard in cut([InputFile("a.txt", 10, 0.0)], 4)]
        [(0, 4), (4, 8), (8, 10)]
    """
    shards: list[Shard] = []
    for file in files:
        ends: list[tuple[int, int | None]] = [(0, None)]
        if not file.is_compressed:
            ends = [(start, min(start + shard_bytes, file.size)) for start in range(0, file.size, shard_bytes)]
        shards += [Shard(len(shards) + index, file.path, *bounds) for index, bounds in enumerate(ends)]
    return shards


def read_lines(shard: Shard) -> Iterator[bytes]:
    """Yields the lines of a shard without their ends; a line belongs to the shard in which it begins."""
    with FileSystems.open(shard.path) as file:
        position = shard.start
        if shard.start > 0:
            # The line before reaches into this shard, unless it ends exactly at its start.
            file.seek(shard.start - 1)
            position = shard.start - 1 + len(file.readline())
        while shard.end is None or position < shard.end:
            line = file.readline()
            if not line:
                return
            position += len(line)
            yield line.rstrip(b"\r\n")
