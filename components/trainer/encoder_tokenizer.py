"""The case of a pretrained encoder's tokenizer: as its folder declares it, else as its vocabulary shows it.

Light: imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from components.trainer.checkpoint_error import CheckpointError

TOKENIZER_CONFIG = "tokenizer_config.json"

# Cased vocabularies have A to Z in a third of their pieces if they are English, in 5 % if multilingual; uncased ones in
# none but special pieces. One in a hundred leaves room for pieces that were added to an uncased vocabulary by hand.
CASED_SHARE = 0.01
_SPECIAL = re.compile(r"\[.+\]")
_CAPITAL = re.compile("[A-Z]")


@dataclasses.dataclass(frozen=True)
class DeclaredCase:
    """What the folder of an encoder says of the case of its tokenizer, and the file that says so."""

    lower_case: bool
    source: str


def declared_case(directory: pathlib.Path) -> DeclaredCase | None:
    """Returns what a folder says of the case of its tokenizer; None where it says nothing, as google-research's do.

    Raises:
        CheckpointError: a file cannot be read.
    """
    path = directory / TOKENIZER_CONFIG
    if not path.is_file():
        return None
    values = _read_json(path)
    if "do_lower_case" not in values:
        return None
    return DeclaredCase(bool(values["do_lower_case"]), TOKENIZER_CONFIG)


def cased_share(tokens: Sequence[str]) -> float:
    """Returns the share of the pieces with one of the letters A to Z; special pieces, in brackets, do not count.

    Example:
        >>> cased_share(["[CLS]", "the", "The", "##s", "中"])
        0.25
    """
    pieces = [token for token in tokens if not _SPECIAL.fullmatch(token)]
    return sum(bool(_CAPITAL.search(piece)) for piece in pieces) / len(pieces) if pieces else 0.0


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
