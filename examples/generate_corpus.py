"""Writes the sample corpora: `python examples/generate_corpus.py [--output DIR]`. The same bytes every time.

Chinese: JSON lines with spans, `zh/{train,dev,test}.jsonl`. English: CoNLL columns with the sentence as a comment,
`en/{train,dev,test}.conll`. The dev and test files use names, name parts and clauses that the train file does not have.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grammar_en
import grammar_zh
from grammar import Sentence, Writer, concatenate

SEED = 20240229
# Of the names in dev and test: shares that are taken from train, and that are none of train's.
REPETITION, NOVELTY = 0.3, 0.6
# (every how many sentences, least characters): models read long texts in windows, and the corpus must show that.
LENGTHS = ((75, 620), (30, 210))


@dataclasses.dataclass(frozen=True)
class Language:
    """A corpus to write.

    Args:
        rules, held_out: of the grammar.
        sizes: split -> number of sentences.
        separator: between the parts of a sentence.
        suffix: of the files.
        serialize: writes (split, sentences).
    """

    rules: Mapping[str, Sequence[str]]
    held_out: Mapping[str, Sequence[str]]
    sizes: Mapping[str, int]
    separator: str
    suffix: str
    serialize: Callable[[str, Sequence[Sentence]], str]


def write_json_lines(split: str, sentences: Sequence[Sentence]) -> str:
    """Returns one object a line."""
    return "".join(
        json.dumps(
            {
                "id": f"zh-{split}-{number:04}",
                "text": sentence.text,
                "entities": [dataclasses.asdict(span) for span in sentence.spans],
            },
            ensure_ascii=False,
        )
        + "\n"
        for number, sentence in enumerate(sentences, start=1)
    )


def write_columns(split: str, sentences: Sequence[Sentence]) -> str:
    """Returns token and BIO tag a line; the comment `# text =` has the sentence as people write it."""
    blocks = []
    for number, sentence in enumerate(sentences, start=1):
        starts = {span.start: span for span in sentence.spans}
        lines = [f"# sent_id = en-{split}-{number:04}", f"# text = {_close_punctuation(sentence.text)}"]
        position, tag = 0, "O"
        end = 0
        for token in sentence.text.split(" "):
            if position in starts:
                tag, end = f"B-{starts[position].type}", starts[position].end
            elif position >= end:
                tag = "O"
            else:
                tag = f"I-{tag[2:]}"
            lines.append(f"{token}\t{tag}")
            position += len(token) + 1
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


LANGUAGES = {
    "zh": Language(
        grammar_zh.RULES, grammar_zh.HELD_OUT, {"train": 1500, "dev": 200, "test": 300}, "", "jsonl", write_json_lines
    ),
    "en": Language(
        grammar_en.RULES, grammar_en.HELD_OUT, {"train": 500, "dev": 80, "test": 120}, " ", "conll", write_columns
    ),
}


def generate(language: Language, seed: int = SEED) -> dict[str, list[Sentence]]:
    """Returns split -> sentences, no text twice."""
    source = random.Random(seed)
    writer = Writer(language.rules, language.held_out, source)
    seen: set[str] = set()
    splits: dict[str, list[Sentence]] = {}
    for split, size in language.sizes.items():
        if split == "dev":
            writer.remember(splits["train"])
            writer.repetition, writer.novelty = REPETITION, NOVELTY
        splits[split] = sentences = []
        while len(sentences) < size:
            least = next((length for every, length in LENGTHS if len(sentences) % every == every - 1), 0)
            sentence = _sentence(writer, language.separator, source, least)
            if sentence.text not in seen:
                seen.add(sentence.text)
                sentences.append(sentence)
    return splits


def describe(splits: Mapping[str, Sequence[Sentence]]) -> list[str]:
    """Returns the rows of a table of the corpus: sizes, lengths, and how many names train does not have."""
    known = {surface for sentence in splits["train"] for surface in sentence.surfaces}
    rows = []
    for split, sentences in splits.items():
        surfaces = [surface for sentence in sentences for surface in sentence.surfaces]
        types = collections.Counter(entity_type for _, entity_type in surfaces)
        lengths = [len(sentence.text) for sentence in sentences]
        unseen = sum(surface not in known for surface in surfaces) / len(surfaces)
        cells = [
            split,
            len(sentences),
            len(surfaces),
            " ".join(f"{name} {types[name]}" for name in sorted(types)),
            f"{unseen:.0%}",
            sorted(lengths)[len(lengths) // 2],
            max(lengths),
            sum(length > 200 for length in lengths),
            sum(length > 600 for length in lengths),
        ]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the folders zh and en")
    output = parser.parse_args().output
    for name, language in LANGUAGES.items():
        splits = generate(language)
        (output / name).mkdir(parents=True, exist_ok=True)
        for split, sentences in splits.items():
            path = output / name / f"{split}.{language.suffix}"
            path.write_text(language.serialize(split, sentences), encoding="utf-8")
        print(f"{name}:", *describe(splits), sep="\n")


def _sentence(writer: Writer, separator: str, source: random.Random, least: int) -> Sentence:
    draw = source.random()
    clauses = 1 + (draw < 0.6) + (draw < 0.2)
    parts = [writer.write("{clause}")]
    while len(parts) < 2 * clauses - 1 or sum(len(part.text) for part in parts) < least:
        parts.append(writer.write(separator + "{join}" + separator))
        parts.append(writer.write("{clause}"))
    sentence = concatenate([*parts, writer.write(separator + "{end}")])
    # A sentence begins with a capital, which changes no offset.
    return Sentence(sentence.text[0].upper() + sentence.text[1:], sentence.spans)


def _close_punctuation(text: str) -> str:
    for mark in (",", ".", "!", "?", ";", "%"):
        text = text.replace(f" {mark}", mark)
    return text.replace("$ ", "$")


if __name__ == "__main__":
    main()
