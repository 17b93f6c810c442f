"""Tags and entities: the tag list of the model, and entities from tags in every scheme that corpora use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from components.annotated_text import AnnotationError, Entity

OUTSIDE = "O"

Scheme = Literal["BIO", "IOB1", "BIOES", "BMES"]

# scheme -> the prefixes it writes. BIOUL is BIOES in other letters: U is S, L is E.
SCHEME_PREFIXES: dict[Scheme, str] = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIESUL", "BMES": "BMES"}

# prefix as written -> its role, one of B (begins), I (inside), E (ends), S (single).
_ROLES = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}

# A tag, and behind a separator another one: `I-ORG|B-GPE`, `B-ORG|O`, `O|O`; not the type `A|B` of a `B-A|B`.
_SEVERAL_TAGS = re.compile(r"(?:O(?=[|,;/+&\s])|[BIESMUL]-).*?[|,;/+&\s](?:O(?:[|,;/+&\s].*)?|[BIESMUL]-.+)", re.DOTALL)

# (role before, role now), both of one type, between which a new entity starts. These are conlleval's rules; the other
# pairs continue the entity. After O, and after another type, every role starts one.
_STARTS = frozenset(
    [(before, "B") for before in "BIES"]
    + [(before, "S") for before in "BIES"]
    + [(before, "I") for before in "ES"]
    + [(before, "E") for before in "ES"]
)

# scheme -> role of a token, by (is first of its entity, is last of its entity, stands behind an entity of its type).
_WRITTEN: dict[Scheme, dict[tuple[bool, bool], str]] = {
    "BIO": {(True, True): "B", (True, False): "B", (False, False): "I", (False, True): "I"},
    "IOB1": {(True, True): "I", (True, False): "I", (False, False): "I", (False, True): "I"},
    "BIOES": {(True, True): "S", (True, False): "B", (False, False): "I", (False, True): "E"},
    "BMES": {(True, True): "S", (True, False): "B", (False, False): "M", (False, True): "E"},
}


def tag_names(entity_types: Iterable[str]) -> tuple[str, ...]:
    """Returns the BIO tags of the model in id order: O is 0, then B and I of each type, types sorted.

    Example:
        >>> tag_names(["PER", "LOC"])
        ('O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER')
    """
    return (OUTSIDE, *(f"{prefix}-{name}" for name in sorted(set(entity_types)) for prefix in "BI"))


def split_tag(tag: str) -> tuple[str, str]:
    """Splits a tag into prefix and entity type; O has the type "".

    Raises:
        AnnotationError: the tag is not O and has no prefix B, I, E, S, M, U or L.

    Example:
        >>> split_tag("B-creative-work")
        ('B', 'creative-work')
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, separator, entity_type = tag.partition("-")
    if prefix not in _ROLES or not separator or not entity_type:
        raise AnnotationError(
            f"expected O or B-, I-, E-, S-, M-, U- or L- with an entity type; received the tag {tag!r}"
        )
    return prefix, entity_type


def tag_role(tag: str) -> tuple[str, str]:
    """Returns what a tag of any scheme does, B (begins), I (inside), E (ends), S (single) or O, and its entity type.

    Raises:
        AnnotationError: as `split_tag`.

    Example:
        >>> tag_role("M-PER")
        ('I', 'PER')
    """
    prefix, entity_type = split_tag(tag)
    return _ROLES.get(prefix, OUTSIDE), entity_type


def is_tag(text: str) -> bool:
    """Whether `text` is a tag of any scheme: O, or a prefix and an entity type."""
    return text == OUTSIDE or (len(text) > 2 and text[1] == "-" and text[0] in _ROLES)


def holds_several_tags(text: str) -> bool:
    """Whether a cell holds nested or alternative tags, not one with a type that looks a little like it.

    Example:
        >>> holds_several_tags("I-ORG|B-GPE"), holds_several_tags("B-ORG|O"), holds_several_tags("B-ORG|GPE")
        (True, True, False)
    """
    return _SEVERAL_TAGS.fullmatch(text) is not None


def check_tag(tag: str, scheme: Scheme) -> None:
    """Raises AnnotationError unless `scheme` writes `tag`.

    Example:
        >>> check_tag("E-PER", "BIO")
        Traceback (most recent call last):
        components.annotated_text.AnnotationError: the tag 'E-PER' is outside the scheme BIO, which writes O, B-, I-
    """
    prefix, _ = split_tag(tag)
    if prefix != OUTSIDE and prefix not in SCHEME_PREFIXES[scheme]:
        written = ", ".join([OUTSIDE, *(f"{letter}-" for letter in SCHEME_PREFIXES[scheme])])
        raise AnnotationError(f"the tag {tag!r} is outside the scheme {scheme}, which writes {written}")


def entities_from_tags(tags: Sequence[str], scheme: Scheme = "BIO") -> list[tuple[int, int, str]]:
    """Returns the entities that `tags` of one text mark, as (first, last exclusive, type) in tags, in order.

    Tags that break the scheme are read as conlleval reads them: an I- (or M-, E-) after O or after another type starts
    a new entity, and an entity ends where no tag continues it. So the same tags mark the same entities in BIO and IOB1.

    Args:
        tags: the tags of one text.
        scheme: the scheme that wrote them.

    Raises:
        AnnotationError: a tag is outside the scheme.

    Example:
        >>> entities_from_tags(["I-PER", "O", "B-LOC", "I-LOC", "I-PER"], "BIO")
        [(0, 1, 'PER'), (2, 4, 'LOC'), (4, 5, 'PER')]
    """
    entities = []
    first, role_before, type_before = 0, OUTSIDE, ""
    for position, tag in enumerate((*tags, OUTSIDE)):
        check_tag(tag, scheme)
        prefix, entity_type = split_tag(tag)
        role = _ROLES.get(prefix, OUTSIDE)
        if entity_type != type_before or (role_before, role) in _STARTS:
            if type_before:
                entities.append((first, position, type_before))
            first = position
        role_before, type_before = role, entity_type
    return entities


def tags_from_entities(
    entities: Iterable[tuple[int, int, str] | Entity], length: int, scheme: Scheme = "BIO"
) -> list[str]:
    """Returns `length` tags that mark `entities`; the inverse of `entities_from_tags`.

    Args:
        entities: (first, last exclusive, type) in tags, or `Entity` objects whose offsets count tags.
        length: the number of tags to write.
        scheme: the scheme to write.

    Raises:
        AnnotationError: an entity is empty, leaves the text or overlaps another.

    Example:
        >>> tags_from_entities([(0, 2, "PER"), (3, 4, "LOC")], 4, "BIOES")
        ['B-PER', 'E-PER', 'O', 'S-LOC']
    """
    tags = [OUTSIDE] * length
    triples = ((e.start, e.end, e.type) if isinstance(e, Entity) else e for e in entities)
    end_before, type_before = 0, ""
    for first, end, entity_type in sorted(triples):
        if not end_before <= first < end <= length:
            raise AnnotationError(
                f"the entity [{first}, {end}) {entity_type} is empty, overlaps its predecessor, which ends at "
                f"{end_before}, or leaves the text of {length} tokens"
            )
        for position in range(first, end):
            tags[position] = f"{_WRITTEN[scheme][position == first, position == end - 1]}-{entity_type}"
        if scheme == "IOB1" and first == end_before and entity_type == type_before:
            tags[first] = f"B-{entity_type}"
        end_before, type_before = end, entity_type
    return tags


def detect_scheme(texts: Iterable[Sequence[str]]) -> Scheme:
    """Returns the scheme that the tags of a whole corpus speak for; strings that are no tags are ignored.

    The rule, in order:
        1. More than 1 in 100 of the tags other than O begin with E, S, M, U or L: BMES if M- is more frequent
           than I-, else BIOES.
        2. Entities that follow O or another type, where BIO must write B- and IOB1 must write I-: if most of
           them begin with I-, IOB1.
        3. Otherwise BIO. So a handful of stray I- in a BIO corpus changes nothing, nor does a single mistyped E-.

    Example:
        >>> detect_scheme([["I-PER", "O", "I-LOC", "B-LOC"]])
        'IOB1'
    """
    prefixes: Counter[str] = Counter()
    starts: Counter[str] = Counter()
    for tags in texts:
        type_before = ""
        for tag in tags:
            if not is_tag(tag):
                type_before = ""
                continue
            prefix, entity_type = split_tag(tag)
            if entity_type:
                prefixes[prefix] += 1
                if entity_type != type_before:
                    starts[prefix] += 1
            type_before = entity_type
    if 100 * sum(prefixes[letter] for letter in "ESMUL") > prefixes.total():
        return "BMES" if prefixes["M"] > prefixes["I"] else "BIOES"
    return "IOB1" if starts["I"] > starts["B"] else "BIO"
