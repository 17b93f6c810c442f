"""The sample corpora: written by their script, and neither trivial nor hopeless."""

from __future__ import annotations

import filecmp
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from components.annotated_text import AnnotatedText
from components.example_gen.reading import read_annotated_text

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {
    language: {split: EXAMPLES / language / f"{split}.{suffix}" for split in ("train", "dev", "test")}
    for language, suffix in (("zh", "jsonl"), ("en", "conll"))
}
TYPES = {"LOC", "ORG", "PER", "PRODUCT", "TIME"}

Splits = dict[str, list[AnnotatedText]]


@pytest.fixture(scope="module")
def corpora() -> dict[str, Splits]:
    return {
        language: {split: read_annotated_text(str(path)) for split, path in files.items()}
        for language, files in FILES.items()
    }


def surfaces(texts: list[AnnotatedText]) -> list[tuple[str, str]]:
    return [(text.text[entity.start : entity.end], entity.type) for text in texts for entity in text.entities]


def test_the_script_writes_these_files(tmp_path: Path) -> None:
    output = subprocess.run(
        [sys.executable, EXAMPLES / "generate_corpus.py", "--output", tmp_path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for language, files in FILES.items():
        names = [path.name for path in files.values()]
        assert filecmp.cmpfiles(EXAMPLES / language, tmp_path / language, names, shallow=False) == (names, [], [])
    documented = (EXAMPLES.parent / "docs" / "data.md").read_text(encoding="utf-8")
    rows = [line for line in output.splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert [row for row in rows if row not in documented] == []


@pytest.mark.parametrize(("language", "least"), [("zh", 2000), ("en", 700)])
def test_sizes_and_types(corpora: dict[str, Splits], language: str, least: int) -> None:
    splits = corpora[language]
    assert sum(map(len, splits.values())) >= least
    for texts in splits.values():
        assert {entity_type for _, entity_type in surfaces(texts)} == TYPES
        assert any(not text.entities for text in texts)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_text_occurs_twice(corpora: dict[str, Splits], language: str) -> None:
    texts = Counter(text.text for split in corpora[language].values() for text in split)
    assert max(texts.values()) == 1


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_most_names_of_dev_and_test_are_new(corpora: dict[str, Splits], language: str, split: str) -> None:
    known = set(surfaces(corpora[language]["train"]))
    found = surfaces(corpora[language][split])
    assert 0.5 < sum(surface not in known for surface in found) / len(found) < 0.8


def test_a_memory_of_train_does_not_solve_test(corpora: dict[str, Splits]) -> None:
    """A tagger that marks every name of train, longest first, stays far below what a model must reach."""
    types = dict(surfaces(corpora["zh"]["train"]))
    pattern = re.compile("|".join(map(re.escape, sorted(types, key=len, reverse=True))))
    hits = predicted = gold = 0
    for text in corpora["zh"]["test"]:
        found = {(match.start(), match.end(), types[match[0]]) for match in pattern.finditer(text.text)}
        entities = {(entity.start, entity.end, entity.type) for entity in text.entities}
        hits, predicted, gold = hits + len(found & entities), predicted + len(found), gold + len(entities)
    assert 2 * hits / (predicted + gold) < 0.5


def test_words_are_entities_only_in_context(corpora: dict[str, Splits]) -> None:
    texts = [text for split in corpora["zh"].values() for text in split]
    for word in ("灯塔", "银杏", "海鸥", "成功"):
        inside = sum(word in surface for surface, _ in surfaces(texts))
        assert 0 < inside < sum(text.text.count(word) for text in texts)
    types = {entity_type for surface, entity_type in surfaces(texts) if surface == "灯塔"}
    assert {"ORG", "PRODUCT"} <= types
    assert any(surface.startswith("北京") and entity_type == "ORG" for surface, entity_type in surfaces(texts))


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_what_real_text_contains(corpora: dict[str, Splits], split: str) -> None:
    texts = [text.text for text in corpora["zh"][split]]
    lengths = [len(text) for text in texts]
    assert sum(length > 200 for length in lengths) >= 5
    assert sum(length > 600 for length in lengths) >= 2
    for pattern in (
        r"[a-z]{3}",
        r"\d",
        r"[，。！？；]",
        r"[\U0001F300-\U0001FAFF]",
        "\u200d|[\U0001f3fb-\U0001f3ff]",
        "[ａ-ｚＡ-Ｚ０-９]",
    ):
        assert any(re.search(pattern, text) for text in texts), pattern
