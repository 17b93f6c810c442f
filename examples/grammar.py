"""Random sentences from a grammar whose symbols may be entities."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterator, Mapping, Sequence

ENTITY_TYPES = ("LOC", "ORG", "PER", "PRODUCT", "TIME")

_SYMBOL = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(frozen=True)
class Span:
    """An entity of a sentence, `text[start:end]` in code points."""

    start: int
    end: int
    type: str


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A text and its entities, in order."""

    text: str
    spans: tuple[Span, ...]

    @property
    def surfaces(self) -> list[tuple[str, str]]:
        """(surface, type) of each entity."""
        return [(self.text[span.start : span.end], span.type) for span in self.spans]


def concatenate(parts: Sequence[Sentence]) -> Sentence:
    """Returns the parts one after another."""
    text = ""
    spans: list[Span] = []
    for part in parts:
        spans += [Span(len(text) + span.start, len(text) + span.end, span.type) for span in part.spans]
        text += part.text
    return Sentence(text, tuple(spans))


class Writer:
    """Expands the symbols of a grammar.

    An entity type is a symbol like the others, but what it expands to is one entity, whatever symbols it is made of: a
    place within the name of an organisation is no entity of its own. `PRODUCT_drug` is a PRODUCT with names of its own.

    Args:
        rules: symbol -> alternatives, in which {symbol} stands for another symbol.
        held_out: symbol -> further alternatives, for the splits that must show something new.
        random_source: where chance comes from.
    """

    def __init__(
        self,
        rules: Mapping[str, Sequence[str]],
        held_out: Mapping[str, Sequence[str]],
        random_source: random.Random,
    ) -> None:
        self._rules = rules
        self._held_out = held_out
        self._random = random_source
        self._known: dict[str, list[str]] = {entity_type: [] for entity_type in ENTITY_TYPES}
        self.novelty = 0.0
        self.repetition = 0.0

    def remember(self, sentences: Sequence[Sentence]) -> None:
        """Takes the names in `sentences` for known: a new name is none of them, a repeated one is."""
        for sentence in sentences:
            for surface, entity_type in sentence.surfaces:
                if surface not in self._known[entity_type]:
                    self._known[entity_type].append(surface)

    def write(self, template: str) -> Sentence:
        """Returns the sentence that `template` expands to."""
        return concatenate(list(self._parts(template)))

    def _parts(self, template: str) -> Iterator[Sentence]:
        position = 0
        for match in _SYMBOL.finditer(template):
            yield Sentence(template[position : match.start()], ())
            yield self._expand(match[1])
            position = match.end()
        yield Sentence(template[position:], ())

    def _expand(self, symbol: str) -> Sentence:
        entity_type = symbol.partition("_")[0]
        if entity_type not in ENTITY_TYPES:
            return self.write(self._choose(symbol))
        name = self._name(symbol, self._known[entity_type])
        return Sentence(name, (Span(0, len(name), entity_type),))

    def _name(self, symbol: str, known: Sequence[str]) -> str:
        draw = self._random.random()
        if known and symbol in ENTITY_TYPES and draw < self.repetition:
            return self._random.choice(known)
        name = self.write(self._choose(symbol)).text
        if draw < self.repetition + self.novelty:
            for _ in range(50):
                if name not in known:
                    break
                name = self.write(self._choose(symbol)).text
        return name

    def _choose(self, symbol: str) -> str:
        alternatives = self._rules[symbol]
        further = self._held_out.get(symbol, ()) if self.novelty else ()
        index = self._random.randrange(len(alternatives) + len(further))
        return (*alternatives, *further)[index]
