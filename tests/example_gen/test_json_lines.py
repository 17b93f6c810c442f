"""JSON lines with spans, in the shapes that annotation tools write."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.annotated_text import AnnotationError, Entity
from components.example_gen.corpus import Corpus
from components.example_gen.json_lines import read_json_lines
from components.example_gen.settings import ReadingSettings


def read(*lines: dict[str, Any] | str, **options: Any) -> Corpus:
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    return read_json_lines(texts, "a.jsonl", ReadingSettings(**options))


def entities(corpus: Corpus) -> list[tuple[int, int, str]]:
    return [(entity.start, entity.end, entity.type) for text in corpus.texts for entity in text.entities]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param({"entities": [{"start": 0, "end": 2, "type": "P"}]}, [(0, 2, "P")], id="entities with type"),
        pytest.param({"entities": [{"start": 0, "end": 2, "label": "P"}]}, [(0, 2, "P")], id="entities with label"),
        pytest.param({"spans": [{"start": 3, "end": 4, "label": "P", "token_start": 1}]}, [(3, 4, "P")], id="spans"),
        pytest.param({"label": [[0, 2, "P"], [3, 5, "L"]]}, [(0, 2, "P"), (3, 5, "L")], id="doccano"),
        pytest.param({"labels": [[0, 2, "P"]]}, [(0, 2, "P")], id="doccano, labels"),
        pytest.param(
            {"id": 7, "entities": [{"id": 1, "label": "P", "start_offset": 0, "end_offset": 2}], "relations": []},
            [(0, 2, "P")],
            id="doccano with relations",
        ),
        pytest.param(
            {"label": {"P": {"张三": [[0, 1]]}, "L": {"北京": [[3, 4]]}}}, [(0, 2, "P"), (3, 5, "L")], id="CLUENER"
        ),
        pytest.param({"label": {"P": {"张三": [[0, 2]]}}}, [(0, 2, "P")], id="CLUENER's shape with exclusive ends"),
        pytest.param({"label": {"P": [[0, 2]]}}, [(0, 2, "P")], id="places by type"),
        pytest.param({"entities": []}, [], id="no entity"),
        pytest.param({"label": {}}, [], id="no entity, CLUENER"),
        pytest.param({"entities": [], "spans": None}, [], id="null is absent"),
        pytest.param(
            {"entities": [{"start": 3, "end": 5, "type": "L", "text": "北京", "score": 0.9}]},
            [(3, 5, "L")],
            id="as tagged",
        ),
        pytest.param(
            {"entities": [{"start": 3, "end": 4, "type": "L", "text": "北京"}]}, [(3, 5, "L")], id="inclusive ends"
        ),
    ],
)
def test_shapes(record: dict[str, Any], expected: list[tuple[int, int, str]]) -> None:
    assert entities(read({"text": "张三在北京。", **record})) == expected


def test_ids_and_sources() -> None:
    corpus = read({"text": "a", "id": 5, "entities": []}, "", {"text": "b", "entities": []}, "  ")
    assert [(text.id, text.source) for text in corpus.texts] == [("5", "a.jsonl:1"), ("a.jsonl:3", "a.jsonl:3")]


def test_empty_and_very_long_texts_are_kept() -> None:
    long = "长" * 100_000 + "江"
    corpus = read(
        {"text": "", "entities": []}, {"text": long, "entities": [{"start": 99_999, "end": 100_001, "type": "L"}]}
    )
    assert [text.text for text in corpus.texts] == ["", long]
    assert entities(corpus) == [(99_999, 100_001, "L")]


def test_long_texts_with_other_units() -> None:
    corpus = read({"text": "😀" * 50_000 + "b", "label": [[100_000, 100_001, "L"]]}, offset_unit="utf16")
    assert entities(corpus) == [(50_000, 50_001, "L")]


def test_the_majority_of_surfaces_decides_the_ends() -> None:
    fine = {"text": "张三在北京。", "label": {"P": {"张三": [[0, 1]]}}}
    wrong = {"text": "张三在北京。", "label": {"P": {"张三": [[0, 2]]}}}
    with pytest.raises(AnnotationError, match=r"a.jsonl:3: .* \[0, 2\] P covers '张三在', but its surface is '张三'"):
        read(fine, fine, wrong)
    assert "span ends are inclusive (detected)" in read(fine, fine).notes


def test_given_ends_overrule_the_evidence() -> None:
    record = {"text": "张三在北京。", "label": [[0, 1, "P"]]}
    assert entities(read(record, span_end="inclusive")) == [(0, 2, "P")]
    assert entities(read(record)) == [(0, 1, "P")]


@pytest.mark.parametrize(
    ("unit", "span"),
    [("code_point", [4, 6]), ("utf16", [5, 7]), ("byte", [10, 16])],
)
@pytest.mark.parametrize("span_end", ["exclusive", "inclusive"])
def test_offset_units(unit: str, span: list[int], span_end: str) -> None:
    text = "é😀 在北京"
    assert text.encode()[span[0] : span[1]] == "北京".encode() or unit != "byte"
    end = span[1] - (span_end == "inclusive")
    corpus = read({"text": text, "label": [[span[0], end, "L"]]}, offset_unit=unit, span_end=span_end)
    assert entities(corpus) == [(4, 6, "L")]


def test_an_inclusive_end_may_name_any_unit_of_the_last_character() -> None:
    for last in (1, 2, 3, 4):
        assert entities(
            read({"text": "a😀b", "label": [[1, last, "P"]]}, offset_unit="byte", span_end="inclusive")
        ) == [(1, 2, "P")]


def test_duplicates_are_merged_and_counted() -> None:
    corpus = read({"text": "张三在北京。", "label": [[0, 2, "P"], [0, 2, "P"], [3, 5, "L"]]})
    assert entities(corpus) == [(0, 2, "P"), (3, 5, "L")]
    assert "1 duplicate spans (same place, same type) were merged" in corpus.notes


def test_white_space_can_be_trimmed() -> None:
    corpus = read({"text": "in \u3000Rome now", "label": [[2, 9, "L"]]}, trim_whitespace=True)
    assert corpus.texts[0].entities == (Entity(4, 8, "L"),)
    assert "1 spans had white space at their edges, which was cut off" in corpus.notes


def test_types_can_be_ignored_even_where_they_overlap() -> None:
    corpus = read({"text": "北京大学", "label": [[0, 2, "L"], [0, 4, "O"]]}, ignore_types=("L",))
    assert entities(corpus) == [(0, 4, "O")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param('{"text": "a", ', "a.jsonl:1: the line is not JSON: .* at column", id="broken JSON"),
        pytest.param("[1]", "the line is JSON, but no object", id="no object"),
        pytest.param({"txt": "a"}, r"has no string \"text\" \(its keys: 'txt'\)", id="no text"),
        pytest.param({"text": 5}, 'has no string "text"', id="text is a number"),
        pytest.param(
            {"text": "a"}, r"none of the keys entities, spans.* write \"entities\": \[\]", id="no annotations"
        ),
        pytest.param(
            {"text": "a", "entities": [], "label": []}, "the keys entities and label; expected one", id="two keys"
        ),
        pytest.param({"text": "a", "label": "P"}, "label is \"'P'\"; expected a list of spans", id="a class label"),
        pytest.param(
            {"text": "ab", "label": [[0, "P"]]}, r"label\[0\] is .*; expected an object with", id="short list"
        ),
        pytest.param({"text": "ab", "entities": [{"start": 0, "end": 1}]}, r"entities\[0\] is", id="no type"),
        pytest.param({"text": "ab", "entities": [{"start": 0.0, "end": 1, "type": "P"}]}, "whole numbers", id="float"),
        pytest.param(
            {"text": "ab", "entities": [{"start": True, "end": 2, "type": "P"}]}, "whole numbers", id="boolean"
        ),
        pytest.param(
            {"text": "ab", "label": {"P": {"a": [0, 1]}}}, "label.P is .* expected {surface:", id="CLUENER, flat"
        ),
        pytest.param(
            {"text": "ab", "label": [[0, 3, "P"]]},
            r"\[0, 3\) P is outside the text, which has 2 code points",
            id="outside",
        ),
        pytest.param({"text": "ab", "label": [[-1, 1, "P"]]}, r"\[-1, 1\) P is outside the text", id="negative"),
        pytest.param(
            {"text": "ab", "label": [[1, 1, "P"]]}, r"\[1, 1\) P is empty; .* span_end: inclusive", id="empty"
        ),
        pytest.param({"text": "ab", "label": [[2, 1, "P"]]}, r"\[2, 1\) P is empty", id="reversed"),
        pytest.param({"text": "ab", "label": [[0, 1, ""]]}, "has the type ''; expected a name", id="empty type"),
        pytest.param({"text": "ab", "label": [[0, 1, "P\n"]]}, r"has the type 'P\\n'", id="line end in the type"),
        pytest.param(
            {"text": "a b", "label": [[0, 2, "P"]]},
            "white space at its edges: 'a '; .* trim_whitespace",
            id="blank at the edge",
        ),
        pytest.param(
            {"text": "北京大学", "label": [[0, 2, "L"], [0, 4, "O"]]},
            r"the spans \[0, 2\) L '北京' and \[0, 4\) O '北京大学' overlap",
            id="nested",
        ),
        pytest.param(
            {"text": "abcd", "label": [[0, 4, "O"], [1, 2, "L"], [3, 4, "L"]]},
            "2 problems",
            id="overlaps behind the longest",
        ),
        pytest.param({"text": "ab", "label": [[0, 1, "L"], [0, 1, "O"]]}, "overlap", id="two types"),
        pytest.param(
            '{"text": "a\\ud83d", "entities": []}', r"unpaired surrogate U\+D83D at code point 1", id="half an emoji"
        ),
        pytest.param(
            r'{"text": "a", "id": "x\ud83d", "entities": []}',
            r"a.jsonl:1: the id 'x\\ud83d' has the unpaired surrogate U\+D83D at code point 1",
            id="half an emoji in the id",
        ),
        pytest.param(
            r'{"text": "a", "label": [[0, 1, "\ude00"]]}',
            r"a.jsonl:1: the type of label\[0\] .* U\+DE00",
            id="half an emoji in a type",
        ),
        pytest.param(
            r'{"text": "a", "entities": [{"start": 0, "end": 1, "type": "P", "text": "\ud83d"}]}',
            r"a.jsonl:1: the surface of entities\[0\] .* U\+D83D",
            id="half an emoji in a surface",
        ),
        pytest.param(
            r'{"text": "a", "label": {"P\ud83d": {"a": 5}}}', r"a.jsonl:1: a key of label .* U\+D83D", id="in a key"
        ),
        pytest.param(
            r'{"text": "a", "label": {"P": {"\ud83d": [[0, 0]]}}}',
            r"a.jsonl:1: a key of label.P .* U\+D83D",
            id="in another",
        ),
        pytest.param(
            '{"text": "a", "label": [[0, ' + "1" * 5000 + ', "P"]]}',
            "a.jsonl:1: the JSON holds a number of thousands of digits: .*; mend the number",
            id="an endless number",
        ),
        pytest.param(
            '{"text": "张三李四", "label": {"P": {"张三": [[0, 1]]}, "P": {"李四": [[2, 3]]}}}',
            "a.jsonl:1: an object has the key 'P' more than once; write its values under one key",
            id="a type twice",
        ),
        pytest.param(
            '{"text": "a", "entities": [], "entities": [{"start": 0, "end": 1, "type": "P"}]}',
            "a.jsonl:1: an object has the key 'entities' more than once",
            id="the spans twice",
        ),
        pytest.param("\n", "the corpus is empty", id="empty"),
        pytest.param("[" * 100_000, "nested too deeply|is not JSON", id="deeply nested"),
    ],
)
def test_refused(line: dict[str, Any] | str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(line)


def test_white_space_alone_is_refused_even_if_trimmed() -> None:
    with pytest.raises(AnnotationError, match="white space"):
        read({"text": "a b", "label": [[1, 2, "P"]]}, trim_whitespace=True)


def test_a_wrong_surface_comes_with_the_setting_that_would_fit() -> None:
    record = {"text": "😀张三在北京", "entities": [{"start": 2, "end": 4, "type": "P", "text": "张三"}]}
    with pytest.raises(AnnotationError) as caught:
        read(record, record)
    assert str(caught.value).split("\n") == [
        "a.jsonl: 2 problems",
        *(
            f"a.jsonl:{line}: the span [2, 4) P covers '三在', but its surface is '张三'; mend the span or the text"
            for line in (1, 2)
        ),
        "a.jsonl: offset_unit: utf16 with span_end: exclusive would fit 2 of 2 surfaces, offset_unit: code_point with "
        "span_end: exclusive fits 0",
    ]
    assert entities(read(record, offset_unit="utf16")) == [(1, 3, "P")]


def test_an_offset_inside_a_character_is_refused() -> None:
    with pytest.raises(AnnotationError, match="begins or ends inside a character"):
        read({"text": "a😀b", "label": [[2, 4, "P"]]}, offset_unit="utf16")


JSON_STRING = st.text(st.characters(exclude_categories=[]), max_size=4)


@given(
    st.recursive(
        st.none() | st.integers() | JSON_STRING,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["start", "end", "type", "text"]) | JSON_STRING, inner, max_size=4)
        ),
    ),
    JSON_STRING,
)
def test_any_annotations_give_printable_texts_or_an_annotation_error(annotations: Any, name: str) -> None:
    try:
        (text,) = read(json.dumps({"id": name, "text": "a北", "label": annotations})).texts
        shown = " ".join([text.id, text.text, *(entity.type for entity in text.entities)])
    except AnnotationError as error:
        shown = str(error)
    assert shown.encode("utf-8").strip()


@st.composite
def annotated(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    pieces = draw(st.lists(st.tuples(st.text(max_size=3), st.text("a北😀é", min_size=1, max_size=3)), max_size=4))
    text, spans = "", []
    for gap, name in pieces:
        text += gap
        spans.append((len(text), len(text) + len(name), draw(st.sampled_from(["P", "L"]))))
        text += name
    return text, spans


@given(st.lists(annotated(), min_size=1, max_size=4), st.sampled_from(["code_point", "utf16", "byte"]), st.booleans())
def test_every_unit_and_end_leads_to_the_same_entities(
    texts: list[tuple[str, list[tuple[int, int, str]]]], unit: str, inclusive: bool
) -> None:
    def width(text: str) -> int:
        return {"code_point": len(text), "utf16": len(text.encode("utf-16-le")) // 2, "byte": len(text.encode())}[unit]

    lines = []
    for text, spans in texts:
        converted = [[width(text[:start]), width(text[:end]) - inclusive, name] for start, end, name in spans]
        lines.append({"text": text, "label": converted})
    corpus = read(*lines, offset_unit=unit, span_end="inclusive" if inclusive else "exclusive")
    assert [text.text for text in corpus.texts] == [text for text, _ in texts]
    assert entities(corpus) == [span for _, spans in texts for span in spans]
