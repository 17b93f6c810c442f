"""Splits cut by hash, and the report on a corpus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.annotated_text import AnnotatedText, AnnotationError, Entity
from components.example_gen.report import check_report, compare_occurrences, findings_of_text, make_report, occurrence
from components.example_gen.splits import cut_split

FILES = {"train": ["t.txt"], "dev": ["t.txt"], "test": ["s.txt"]}


def test_the_cut_is_stable() -> None:
    # Literals: another hash would move texts between the splits of corpora that exist.
    splits = [cut_split(text, dev_fraction=0.3, test_fraction=0.3) for text in "一二三四五六七八"]
    assert splits == ["train", "dev", "train", "train", "test", "test", "dev", "dev"]


@given(st.text())
def test_cutting_one_split_less_moves_no_other_text(text: str) -> None:
    both = cut_split(text, dev_fraction=0.1, test_fraction=0.2)
    assert cut_split(text, dev_fraction=0.1, test_fraction=0.0) == ("dev" if both == "dev" else "train")
    assert cut_split(text, dev_fraction=0.0, test_fraction=0.2) == ("test" if both == "test" else "train")
    assert cut_split(text, dev_fraction=0.0, test_fraction=0.0) == "train"


def test_the_shares_are_met() -> None:
    splits = [cut_split(str(number), dev_fraction=0.1, test_fraction=0.2) for number in range(5000)]
    assert splits.count("dev") / 5000 == pytest.approx(0.1, abs=0.02)
    assert splits.count("test") / 5000 == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("occurrences", "expected"),
    [
        pytest.param([("train", "a")], [], id="once"),
        pytest.param([("train", "a"), ("train", "a")], [], id="twice in a split"),
        pytest.param([("train", "a"), ("train", "b")], [("contradiction", "")], id="with other entities"),
        pytest.param([("dev", "a"), ("train", "a")], [("leak", "train, dev")], id="leak"),
        pytest.param(
            [("dev", "a"), ("train", "a"), ("test", "b")],
            [("leak", "train, dev"), ("leak", "train, test"), ("leak", "dev, test"), ("contradiction", "")],
            id="everywhere",
        ),
    ],
)
def test_compare_occurrences(occurrences: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    assert compare_occurrences(occurrences) == expected


def test_occurrences_of_equal_texts_have_equal_keys() -> None:
    one = AnnotatedText("1", "北京", (Entity(0, 2, "LOC"),), "a:1")
    other = AnnotatedText("2", "北京", (), "b:7")
    assert occurrence("train", one)[0] == occurrence("dev", other)[0]
    assert occurrence("train", one)[1][1] != occurrence("train", other)[1][1]


def counts(**texts: int) -> dict[tuple[str, str], int]:
    return {("text", split): number for split, number in texts.items()}


def test_report() -> None:
    findings = {
        **counts(train=3, dev=1, test=2),
        ("entity", "train PER"): 4,
        ("entity", "dev PER"): 1,
        ("entity", "test creative work"): 2,
        ("leak", "train, test"): 1,
        ("contradiction", ""): 2,
        ("note", "a.txt: the scheme is BIO"): 1,
    }
    report = make_report(findings)
    assert report.sentences() == [
        "a.txt: the scheme is BIO",
        "train: 3 texts, 4 entities (PER 4)",
        "dev: 1 texts, 1 entities (PER 1)",
        "test: 2 texts, 2 entities (creative work 2)",
        "1 texts stand in both of train, test; scores on the later one flatter the model",
        "2 texts occur again with other entities",
        "test has entity types that train lacks, so no model can find them: creative work",
    ]
    check_report(report, FILES)


@pytest.mark.parametrize(
    ("findings", "message"),
    [
        pytest.param(
            {**counts(train=1, dev=1, test=5), ("entity", "train P"): 1, ("entity", "dev P"): 1},
            "s.txt: the split test has 5 texts and no entity",
            id="no entity",
        ),
        pytest.param(
            {**counts(train=1, test=5), ("entity", "train P"): 1, ("entity", "test P"): 1},
            "t.txt: the split dev has no text; .* another dev_fraction",
            id="no text",
        ),
    ],
)
def test_a_split_needs_texts_and_entities(findings: dict[tuple[str, str], int], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        check_report(make_report(findings), FILES)


def test_findings_of_text() -> None:
    text = AnnotatedText("1", "a b", (Entity(0, 1, "P"), Entity(2, 3, "P")), "a:1")
    assert findings_of_text("dev", text) == [("text", "dev"), ("entity", "dev P"), ("entity", "dev P")]
