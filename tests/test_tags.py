"""Tags to entities and back, in every scheme."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.annotated_text import AnnotationError, Entity
from components.tags import (
    SCHEME_PREFIXES,
    Scheme,
    check_tag,
    detect_scheme,
    entities_from_tags,
    holds_several_tags,
    split_tag,
    tag_names,
    tags_from_entities,
)

SCHEMES: tuple[Scheme, ...] = ("BIO", "IOB1", "BIOES", "BMES")


def test_tag_names_are_sorted_and_begin_with_o() -> None:
    assert tag_names(["PER", "LOC", "PER"]) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        pytest.param("O", ("O", ""), id="outside"),
        pytest.param("B-creative-work", ("B", "creative-work"), id="type with a hyphen"),
        pytest.param("U-PER", ("U", "PER"), id="BIOUL"),
        pytest.param("I-人名", ("I", "人名"), id="Chinese type"),
    ],
)
def test_split_tag(tag: str, expected: tuple[str, str]) -> None:
    assert split_tag(tag) == expected


@pytest.mark.parametrize("tag", ["", "B", "B-", "-PER", "X-PER", "o", "0", "B_PER", "PER", "BI-PER"])
def test_split_tag_refuses_what_is_no_tag(tag: str) -> None:
    with pytest.raises(AnnotationError, match="expected O or B-"):
        split_tag(tag)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("I-ORG|B-GPE", True, id="nested"),
        pytest.param("B-PER,B-LOC", True, id="alternative"),
        pytest.param("B-ORG|O", True, id="nested in nothing"),
        pytest.param("O|B-ORG", True, id="O first"),
        pytest.param("O|O|O", True, id="three"),
        pytest.param("B-A; I-B", True, id="a blank behind the separator"),
        pytest.param("B-A I-B", True, id="a blank"),
        pytest.param("O; B-A", True, id="O and a blank behind the separator"),
        pytest.param("B-" + "," * 200_000, False, id="very many separators"),
        pytest.param("O", False, id="outside"),
        pytest.param("B-A|B", False, id="a type with a bar"),
        pytest.param("B-LOC/GPE", False, id="a type with a slash"),
        pytest.param("B-A|Ohio", False, id="a type that begins with O"),
        pytest.param("B-B-cell", False, id="a type that looks like a tag"),
        pytest.param("B-A|B-", False, id="no type behind the prefix"),
        pytest.param("x|B-A", False, id="no tag first"),
    ],
)
def test_several_tags_in_a_cell(text: str, expected: bool) -> None:
    assert holds_several_tags(text) == expected


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        pytest.param("BIO", "", [], id="no token"),
        pytest.param("BIO", "O O", [], id="no entity"),
        pytest.param("BIO", "B-P I-P O B-L", [(0, 2, "P"), (3, 4, "L")], id="BIO"),
        pytest.param("BIO", "B-P B-P", [(0, 1, "P"), (1, 2, "P")], id="BIO, adjacent of one type"),
        pytest.param("BIO", "I-P I-P", [(0, 2, "P")], id="BIO, stray I- at the start"),
        pytest.param("BIO", "O I-P", [(1, 2, "P")], id="BIO, stray I- after O"),
        pytest.param("BIO", "B-P I-L", [(0, 1, "P"), (1, 2, "L")], id="BIO, stray I- after another type"),
        pytest.param("BIO", "B-P O I-P", [(0, 1, "P"), (2, 3, "P")], id="BIO, a gap ends an entity"),
        pytest.param("IOB1", "I-P I-P O I-L", [(0, 2, "P"), (3, 4, "L")], id="IOB1"),
        pytest.param("IOB1", "I-P B-P I-P", [(0, 1, "P"), (1, 3, "P")], id="IOB1, adjacent of one type"),
        pytest.param("BIOES", "B-P I-P E-P S-L", [(0, 3, "P"), (3, 4, "L")], id="BIOES"),
        pytest.param("BIOES", "S-P S-P", [(0, 1, "P"), (1, 2, "P")], id="BIOES, adjacent singles"),
        pytest.param("BIOES", "B-P E-P I-P", [(0, 2, "P"), (2, 3, "P")], id="BIOES, I- after E-"),
        pytest.param("BIOES", "E-P E-P", [(0, 1, "P"), (1, 2, "P")], id="BIOES, E- after E-"),
        pytest.param("BIOES", "O E-P", [(1, 2, "P")], id="BIOES, stray E-"),
        pytest.param("BIOES", "B-P I-P O", [(0, 2, "P")], id="BIOES, no E-"),
        pytest.param("BIOES", "U-P B-P L-P", [(0, 1, "P"), (1, 3, "P")], id="BIOUL letters"),
        pytest.param("BMES", "B-P M-P E-P S-P", [(0, 3, "P"), (3, 4, "P")], id="BMES"),
        pytest.param("BMES", "M-P O", [(0, 1, "P")], id="BMES, stray M-"),
    ],
)
def test_entities_from_tags(scheme: Scheme, tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert entities_from_tags(tags.split(), scheme) == expected


@pytest.mark.parametrize(
    ("scheme", "tag"), [("BIO", "E-P"), ("BIO", "M-P"), ("IOB1", "S-P"), ("BIOES", "M-P"), ("BMES", "I-P")]
)
def test_a_tag_outside_the_scheme_is_refused(scheme: Scheme, tag: str) -> None:
    with pytest.raises(AnnotationError, match=f"'{tag}' is outside the scheme {scheme}, which writes O, B-"):
        entities_from_tags(["O", tag], scheme)
    with pytest.raises(AnnotationError, match="outside the scheme"):
        check_tag(tag, scheme)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param([], "BIO", id="no text"),
        pytest.param(["O O"], "BIO", id="no entity"),
        pytest.param(["B-P I-P", "B-L"], "BIO", id="BIO"),
        pytest.param(["I-P I-P O", "I-P B-P", "I-L"], "IOB1", id="IOB1"),
        pytest.param(["I-P", "I-L"], "IOB1", id="only I-"),
        pytest.param(["B-P I-P"] * 20 + ["O I-P"] * 9, "BIO", id="BIO with stray I-"),
        pytest.param(["B-P I-P I-L"] * 5, "BIO", id="BIO, as many I- starts after another type as B- starts"),
        pytest.param(["I-P B-P B-P"] * 5, "IOB1", id="IOB1, B- only where it must be"),
        pytest.param(["B-P I-P E-P", "S-P"], "BIOES", id="BIOES"),
        pytest.param(["S-P", "B-P E-P"], "BIOES", id="BIOES without inside"),
        pytest.param(["B-P L-P U-P"], "BIOES", id="BIOUL"),
        pytest.param(["B-P M-P E-P", "S-P"], "BMES", id="BMES"),
        pytest.param(["B-P I-P"] * 200 + ["E-P"], "BIO", id="one mistyped tag"),
        pytest.param(["nonsense B-P", "O I-P I-P B-P"], "BIO", id="what is no tag is ignored"),
    ],
)
def test_detect_scheme(texts: list[str], expected: str) -> None:
    assert detect_scheme([text.split() for text in texts]) == expected


@st.composite
def entities_and_length(draw: st.DrawFn) -> tuple[list[tuple[int, int, str]], int]:
    pieces = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["P", "L", "O-x"]))))
    entities, position = [], 0
    for gap, length, entity_type in pieces:
        entities.append((position + gap, position + gap + length, entity_type))
        position += gap + length
    return entities, position + draw(st.integers(0, 3))


@given(entities_and_length(), st.sampled_from(SCHEMES))
def test_entities_survive_the_way_through_tags(drawn: tuple[list[tuple[int, int, str]], int], scheme: Scheme) -> None:
    entities, length = drawn
    tags = tags_from_entities(entities, length, scheme)
    assert len(tags) == length
    assert entities_from_tags(tags, scheme) == entities


@given(st.data(), st.sampled_from(SCHEMES))
def test_any_tags_of_a_scheme_mark_disjoint_entities_that_cover_them(data: st.DataObject, scheme: Scheme) -> None:
    tag = st.one_of(
        st.just("O"), st.builds("{}-{}".format, st.sampled_from(SCHEME_PREFIXES[scheme]), st.sampled_from("PL"))
    )
    tags = data.draw(st.lists(tag))
    entities = entities_from_tags(tags, scheme)
    covered = [position for first, end, _ in entities for position in range(first, end)]
    assert covered == [position for position, tag in enumerate(tags) if tag != "O"]
    assert all(tags[position].endswith(f"-{name}") for first, end, name in entities for position in range(first, end))


@given(st.lists(st.sampled_from(["O", "B-P", "I-P", "B-L", "I-L"])))
def test_bio_and_iob1_read_the_same(tags: list[str]) -> None:
    assert entities_from_tags(tags, "BIO") == entities_from_tags(tags, "IOB1")


@pytest.mark.parametrize(
    "entities",
    [
        pytest.param([(0, 2, "P"), (1, 3, "P")], id="overlap"),
        pytest.param([(2, 4, "P")], id="outside"),
        pytest.param([(1, 1, "P")], id="empty"),
    ],
)
def test_tags_from_entities_refuses(entities: list[tuple[int, int, str]]) -> None:
    with pytest.raises(AnnotationError, match="is empty, overlaps its predecessor"):
        tags_from_entities(entities, 3)


def test_tags_from_entities_takes_entities() -> None:
    assert tags_from_entities([Entity(1, 2, "P")], 3) == ["O", "B-P", "O"]
