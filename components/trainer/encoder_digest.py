"""The digest of an encoder's folder. Light: imports no TensorFlow."""

from __future__ import annotations

import hashlib
import os
import pathlib

_BLOCK = 2**24


def encoder_digest(directory: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of names and contents of the files directly in a folder, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(directory).iterdir()):
        if path.is_file():
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
    return digest.hexdigest()
