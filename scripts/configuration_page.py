"""Writes docs/configuration.md from the settings classes, so that the page and the code cannot differ.

python scripts/configuration_page.py > docs/configuration.md
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.configuration import Configuration

# Filled in by the pipeline itself.
INTERNAL = {"transform.vocabulary_digest", "trainer.encoder_digest", "trainer.lower_case"}

HEAD = """\
# Configuration

One YAML file describes a pipeline; `fusion-ner run --config FILE` reads it, and so does `fusion-ner kubeflow compile`.
Unknown settings, missing files and impossible values are refused before anything runs. Paths in the file are relative
to its folder; paths given as options (`--train`, `--dev`, `--test`, `--encoder`, `--output`) to the working directory.
`--train` replaces the whole corpus of the file: dev and test sets that are not given with it are cut from it.

Two defaults follow from other settings: a pretrained `trainer.encoder` brings its own `vocab.txt` as
`transform.vocabulary`, and the case of its tokenizer as `transform.lower_case`. Where its folder does not declare the
case, as google-research's do not, the vocabulary decides, and `run` says what it took and why.

This page is written by `scripts/configuration_page.py` from the settings classes.
"""


def page() -> str:
    """Returns the page."""
    sections = [HEAD]
    for title, rows in _sections(Configuration, ""):
        lines = [f"## {title}", "", "| setting | type | default | meaning |", "|---|---|---|---|"]
        sections.append("\n".join([*lines, *rows]) + "\n")
    return "\n".join(sections)


def _sections(settings: type, path: str) -> Iterator[tuple[str, list[str]]]:
    meanings = _arguments(settings)
    types = typing.get_type_hints(settings)
    rows, nested = [], []
    for field in dataclasses.fields(settings):
        place = f"{path}{field.name}"
        if place in INTERNAL:
            continue
        annotation = types[field.name]
        inner = next(
            (each for each in (annotation, *typing.get_args(annotation)) if dataclasses.is_dataclass(each)), None
        )
        if inner is not None:
            items = {tuple: "[]", Mapping: ".NAME"}.get(typing.get_origin(annotation), "")
            nested.append((inner, f"{place}{items}."))
            continue
        rows.append(
            f"| `{place}` | {_type_name(types[field.name])} | {_default(field)} | {meanings.get(field.name, '')} |"
        )
    if rows:
        yield (f"`{path.rstrip('.')}`" if path else "The pipeline"), rows
    for inner, inner_path in nested:
        yield from _sections(inner, inner_path)


def _arguments(settings: type) -> dict[str, str]:
    """The meanings in the `Args:` of a settings class and its bases, as one line each."""
    meanings: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        text = inspect.cleandoc(base.__doc__ or "") if dataclasses.is_dataclass(base) else ""
        block = re.search(r"^Args:\n((?: {4}.*\n?|\n)*)", text, re.MULTILINE)
        if block:
            for name, meaning in re.findall(r"^ {4}(\w+): ((?:.*\n?)(?: {8}.*\n?)*)", block.group(1), re.MULTILINE):
                meanings[name] = " ".join(meaning.split()).replace("|", "\\|")
    return meanings


def _type_name(annotation: object) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(annotation))
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return (
        name.replace("collections.abc.", "")
        .replace("typing.", "")
        .replace("|", "or")
        .replace("None", "null")
        .replace("  ", " ")
    )


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if isinstance(value, (list, tuple)):
        return f"`[{', '.join(map(str, value))}]`"
    # As YAML writes them.
    return f"`{json.dumps(value) if value is None or isinstance(value, (bool, str)) else value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
