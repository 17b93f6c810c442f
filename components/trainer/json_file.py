"""JSON files beside the weights of an encoder. Light: imports no TensorFlow."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from components.trainer.checkpoint_error import CheckpointError


def read_json_object(path: str | pathlib.Path) -> dict[str, Any]:
    """Reads a JSON object in UTF-8, with or without a byte-order mark.

    Raises:
        CheckpointError: the file cannot be read, or is no JSON object; it is named.
    """
    try:
        values = json.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected a JSON object; received {type(values).__name__}")
    return values
