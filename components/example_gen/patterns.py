"""Paths of files as TFX wants them: a base folder, and a pattern for each split below it."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Mapping

from components.example_gen.settings import PATH_SPECIFICATION, REMOTE


def input_patterns(files: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Returns a folder above all files, and each split's pattern below it.

    Characters that a pattern would interpret are escaped, so that each pattern means its file alone; the base folder
    has none of them. Local paths become absolute.

    Args:
        files: split -> path; all local, or all below one scheme such as `gs://`.

    Example:
        >>> input_patterns({"train": "/data/a[1]/train.txt", "test": "/data/b/test.txt"})
        ('/data', {'train': 'a[[]1]/train.txt', 'test': 'b/test.txt'})
    """
    located = {name: _root_and_parts(path) for name, path in files.items()}
    (root,) = {root for root, _ in located.values()}
    common = _common([parts[:-1] for _, parts in located.values()])
    plain = list(itertools.takewhile(_is_plain, common))
    patterns = {name: "/".join(map(_escape, parts[len(plain) :])) for name, (_, parts) in located.items()}
    return root + "/".join(plain), patterns


def _root_and_parts(path: str) -> tuple[str, list[str]]:
    if REMOTE in path:
        scheme, _, rest = path.partition(REMOTE)
        return scheme + REMOTE, rest.split("/")
    return "/", os.path.abspath(path).split("/")[1:]


def _common(lists: Iterable[list[str]]) -> list[str]:
    levels = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*lists, strict=False))
    return [level[0] for level in levels]


def _is_plain(part: str) -> bool:
    return glob.escape(part) == part and not PATH_SPECIFICATION.search(part)


def _escape(part: str) -> str:
    return part if PATH_SPECIFICATION.search(part) else glob.escape(part)
