"""What ExampleGen found in a corpus: numbers of each split, leaks between splits, and problems."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from components.annotated_text import AnnotatedText, AnnotationError
from components.example_gen.settings import SPLITS
from components.example_gen.splits import text_key

# A fact that one worker found out, as (kind, key); Beam counts how often. The kinds and their keys: "text": split,
# "entity": split and type with a blank between, "leak": splits, "contradiction": "", "note", "problem": the sentence.
Finding = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Report:
    """The findings.

    Args:
        texts: split -> number of texts.
        entities: split -> entity type -> number of entities.
        leaks: "train, test" and so on -> number of distinct texts that stand in both splits.
        contradictions: number of distinct texts that occur again with other entities.
        notes: what the readers detected and did, file by file.
    """

    texts: Mapping[str, int]
    entities: Mapping[str, Mapping[str, int]]
    leaks: Mapping[str, int]
    contradictions: int
    notes: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Returns the findings in words, for the log."""
        lines = list(self.notes)
        for split, count in self.texts.items():
            types = ", ".join(f"{name} {number}" for name, number in sorted(self.entities[split].items()))
            lines.append(f"{split}: {count} texts, {sum(self.entities[split].values())} entities ({types})")
        lines += [
            f"{count} texts stand in both of {pair}; scores on the later one flatter the model"
            for pair, count in self.leaks.items()
            if count
        ]
        if self.contradictions:
            lines.append(f"{self.contradictions} texts occur again with other entities")
        for split in SPLITS[1:]:
            if unknown := sorted(set(self.entities[split]) - set(self.entities["train"])):
                lines.append(
                    f"{split} has entity types that train lacks, so no model can find them: {', '.join(unknown)}"
                )
        return lines


def findings_of_text(split: str, annotated: AnnotatedText) -> list[Finding]:
    """Returns what to count for a text: itself and its entities."""
    return [("text", split), *(("entity", f"{split} {entity.type}") for entity in annotated.entities)]


def occurrence(split: str, annotated: AnnotatedText) -> tuple[str, tuple[str, str]]:
    """Returns (key of the text, (split, key of its entities)), to be grouped by the first."""
    entities = ";".join(f"{entity.start},{entity.end},{entity.type}" for entity in annotated.entities)
    return text_key(annotated.text), (split, text_key(entities))


def compare_occurrences(occurrences: Iterable[tuple[str, str]]) -> list[Finding]:
    """Returns what to count for the occurrences of one text: the pairs of splits it leaks between, contradictions.

    Example:
        >>> compare_occurrences([("train", "a"), ("test", "a")])
        [('leak', 'train, test')]
    """
    splits, entities = map(set, zip(*occurrences, strict=True))
    pairs = [pair for pair in itertools.combinations(SPLITS, 2) if splits.issuperset(pair)]
    return [("leak", ", ".join(pair)) for pair in pairs] + [("contradiction", "")] * (len(entities) > 1)


def make_report(findings: Mapping[Finding, int]) -> Report:
    """Returns the report of counted findings."""
    texts = dict.fromkeys(SPLITS, 0)
    entities: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    leaks = {", ".join(pair): 0 for pair in itertools.combinations(SPLITS, 2)}
    contradictions = 0
    notes = []
    for (kind, key), count in sorted(findings.items()):
        if kind == "text":
            texts[key] += count
        elif kind == "entity":
            split, _, entity_type = key.partition(" ")
            entities[split][entity_type] = count
        elif kind == "leak":
            leaks[key] += count
        elif kind == "contradiction":
            contradictions += count
        elif kind == "note":
            notes.append(key)
    return Report(texts, entities, leaks, contradictions, tuple(notes))


def check_report(report: Report, files: Mapping[str, Sequence[str]]) -> None:
    """Raises AnnotationError if a split has no text or no entity.

    Args:
        report: the findings.
        files: split -> the files it was given or cut from.
    """
    faults = []
    for split in SPLITS:
        where = ", ".join(files[split])
        texts, entities = report.texts[split], sum(report.entities[split].values())
        if texts and entities:
            continue
        found = f"{texts} texts and no entity" if texts else "no text"
        faults.append(
            f"{where}: the split {split} has {found}; expected annotated text with entities in every split; give "
            f"a file for it, more text, or another dev_fraction or test_fraction if it is cut from train"
        )
    if faults:
        raise AnnotationError("\n".join(faults))
