"""Object store URIs and the local paths under which the backend's launcher keeps their copies."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

# The launcher's own mapping: it downloads inputs to these folders and uploads outputs from them.
_FOLDERS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
# Set where the folders lie below another root than "/", as in a check without a cluster.
PREFIX_VARIABLE = "FUSION_NER_OBJECT_STORE_PREFIX"


def local_path(uri: str, prefix: str | None = None) -> str:
    """Returns the local path of the copy of `uri`; anything but an object store URI is returned as it is.

    Args:
        uri: gs://, s3:// or minio://.
        prefix: folder above /gcs, /s3 and /minio; None reads the variable FUSION_NER_OBJECT_STORE_PREFIX.

    Example:
        >>> local_path("minio://mlpipeline/v2/model", prefix="")
        '/minio/mlpipeline/v2/model'
    """
    prefix = os.environ.get(PREFIX_VARIABLE, "") if prefix is None else prefix
    for scheme, folder in _FOLDERS.items():
        if uri.startswith(scheme):
            return prefix.rstrip("/") + folder + uri[len(scheme) :]
    return uri


def is_object_store(uri: str) -> bool:
    """Whether the launcher copies `uri`."""
    return uri.startswith(tuple(_FOLDERS))


def to_remote(value: Any, uris: Mapping[str, str]) -> Any:
    """Returns parsed JSON with every local path replaced by its URI, wherever it occurs in a string.

    Null values of mappings are left out: the backend's metadata store cannot hold them.

    Args:
        value: parsed JSON.
        uris: local path -> URI.
    """
    if isinstance(value, dict):
        return {key: to_remote(item, uris) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [to_remote(item, uris) for item in value]
    if isinstance(value, str):
        # Longest first, so that a path is not taken for the beginning of another.
        for path in sorted(uris, key=len, reverse=True):
            value = value.replace(path, uris[path])
    return value


def rewrite_json(text: str, uris: Mapping[str, str]) -> str:
    """Returns the JSON `text` after `to_remote`."""
    return json.dumps(to_remote(json.loads(text), uris))
