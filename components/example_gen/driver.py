"""Driver of ExampleGen: the fingerprint of the input covers the contents of the files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from tfx.components.example_gen import driver, input_processor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2, range_config_pb2

_BLOCK_BYTES = 1 << 20


class ContentInputProcessor(input_processor.FileBasedInputProcessor):
    """Adds a hash of the contents to TFX's fingerprint.

    TFX's own has sizes and modification times in whole seconds: a file that is rewritten within a second, or replaced
    under its old time (`cp -p`, rsync), would count as unchanged, and the cached examples would be used.
    """

    def get_input_fingerprint(self, span: int, version: int | None) -> str:
        """Returns TFX's fingerprint and the SHA-256 of each split's files."""
        lines = [super().get_input_fingerprint(span, version)]
        for split in self._splits:
            pattern = os.path.join(
                self._input_base_uri, self.get_pattern_for_span_version(split.pattern, span, version)
            )
            for path in sorted(fileio.glob(pattern)):
                lines.append(f"split:{split.name},sha256:{_hash_file(path)}")
        return "\n".join(lines)


class ContentDriver(driver.FileBasedDriver):
    """FileBasedExampleGen's driver with `ContentInputProcessor`."""

    def get_input_processor(
        self,
        splits: Iterable[example_gen_pb2.Input.Split],
        range_config: range_config_pb2.RangeConfig | None = None,
        input_base_uri: str | None = None,
    ) -> input_processor.InputProcessor:
        """Returns the processor that resolves spans and fingerprints."""
        return ContentInputProcessor(input_base_uri, splits, range_config)


def _hash_file(path: str) -> str:
    digest = hashlib.sha256()
    with fileio.open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
