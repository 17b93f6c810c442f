"""Columns of tokens and tags."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.annotated_text import AnnotationError
from components.example_gen.conll import read_conll
from components.example_gen.corpus import Corpus
from components.example_gen.reading import parse_corpus, read_corpus
from components.example_gen.settings import ReadingSettings
from components.tags import tags_from_entities

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


def read(text: str, **settings: object) -> Corpus:
    return read_conll(text.split("\n"), "a.conll", ReadingSettings(**settings))  # type: ignore[arg-type]


def surfaces(corpus: Corpus) -> list[list[tuple[str, str]]]:
    return [[(text.text[e.start : e.end], e.type) for e in text.entities] for text in corpus.texts]


@pytest.mark.parametrize(
    ("text", "texts", "entities"),
    [
        pytest.param(
            "Ada\tB-P\nsings\tO\n\nBob\tB-P\n", ["Ada sings", "Bob"], [[("Ada", "P")], [("Bob", "P")]], id="tabs"
        ),
        pytest.param("Ada B-P\nsings   O", ["Ada sings"], [[("Ada", "P")]], id="blanks, no final newline"),
        pytest.param("Ada B-P \n\t \nBob O\n \n\n", ["Ada", "Bob"], [[("Ada", "P")], []], id="blank lines with blanks"),
        pytest.param("-DOCSTART- -X- O O\n\nAda NN B-NP B-P\n", ["Ada"], [[("Ada", "P")]], id="document start"),
        pytest.param("Ada\tB-P\tNN\tx\nis\tO\tVB\tx", ["Ada is"], [[("Ada", "P")]], id="the tag is not last"),
        pytest.param("Ada NN B-NP B-P\nis VB B-VP O", ["Ada is"], [[("Ada", "P")]], id="chunks are no entities"),
        pytest.param(
            "Ada NE B-NC B-P\nsingt VV B-VC O\nin AP B-PC O",
            ["Ada singt in"],
            [[("Ada", "P")]],
            id="German chunks are none either",
        ),
        pytest.param("1\tAda\tB-P\t-\t-\n2\tis\tO\t-\t-", ["Ada is"], [[("Ada", "P")]], id="token numbers"),
        pytest.param(
            "0\tAda\tB-P\n1\tis\tO\n\n0\tBob\tO", ["Ada is", "Bob"], [[("Ada", "P")], []], id="numbers from 0"
        ),
        pytest.param(
            "# a comment\nAda B-P\n# another\nBob B-P", ["Ada", "Bob"], [[("Ada", "P")], [("Bob", "P")]], id="comments"
        ),
        pytest.param("#\tO\n#tag\tB-P\n#\tO", ["# #tag #"], [[("#tag", "P")]], id="hashtags are tokens"),
        pytest.param("# text = x\n#a=b\tO\nc\tO", None, None, id="a hashtag with = is a token"),
        pytest.param("北\tB-L\n京\tI-L\n2\tO\n0\tO\na\tO", ["北京20a"], [[("北京", "L")]], id="characters"),
        pytest.param(
            "北京 B-L\n2008 B-T\n年 I-T\niPhone O\n手机 O",
            ["北京2008年iPhone手机"],
            [[("北京", "L"), ("2008年", "T")]],
            id="words without spaces",
        ),
        pytest.param(
            "纽约 O\n人 O\n的 O\nNew B-L\nYork I-L\n好 O",
            ["纽约人的New York好"],
            [[("New York", "L")]],
            id="Western words keep their space",
        ),
        pytest.param(
            "in O\n北京 B-L\n路 I-L\nis O\nfine O",
            ["in 北京路 is fine"],
            [[("北京路", "L")]],
            id="Chinese words in English",
        ),
        pytest.param("서울 B-L\n사람 O", ["서울 사람"], [[("서울", "L")]], id="Korean has spaces"),
        pytest.param("ไป O\nกรุงเทพ B-L", ["ไปกรุงเทพ"], [[("กรุงเทพ", "L")]], id="Thai has none"),
        pytest.param("科0 B-T\n技1 I-T\n很0 O\n20 O\n好0 O", ["科技很2好"], [[("科技", "T")]], id="position digits"),
        pytest.param("\u3000 O\n北 B-L", ["\u3000北"], [[("北", "L")]], id="an ideographic space is a token"),
        pytest.param("a\x85b O\nc\u2028d B-P", ["a\x85b c\u2028d"], [[("c\u2028d", "P")]], id="only LF ends a line"),
        pytest.param(
            "I I-P\nam O\n\nBob I-P\nAda B-P",
            ["I am", "Bob Ada"],
            [[("I", "P")], [("Bob", "P"), ("Ada", "P")]],
            id="IOB1",
        ),
        pytest.param("北 B-L\n京 M-L\n市 E-L\n张 S-P", ["北京市张"], [[("北京市", "L"), ("张", "P")]], id="BMES"),
        pytest.param(
            "😀 B-P\n👨‍👩‍👧 I-P\ne\u0301 O",
            ["😀 👨‍👩‍👧 e\u0301"],
            [[("😀 👨‍👩‍👧", "P")]],
            id="emoji and combining marks",
        ),
    ],
)
def test_read(text: str, texts: list[str] | None, entities: list[list[tuple[str, str]]] | None) -> None:
    if texts is None:
        with pytest.raises(AnnotationError, match="does not continue the sentence"):
            read(text)
        return
    corpus = read(text)
    assert [annotated.text for annotated in corpus.texts] == texts
    assert surfaces(corpus) == entities


def test_the_text_comment_gives_the_sentence() -> None:
    corpus = read("# sent_id = s1\n# text = Dr. Ada's  dog.\nDr.\tO\nAda\tB-P\n's\tO\ndog\tO\n.\tO\n")
    (annotated,) = corpus.texts
    assert (annotated.id, annotated.text, annotated.source) == ("s1", "Dr. Ada's  dog.", "a.conll:3")
    assert surfaces(corpus) == [[("Ada", "P")]]


@pytest.mark.parametrize(
    "comment",
    [
        pytest.param("## klue-ner-v1_dev_00014\t<Ada:PS> sings", id="KLUE"),
        pytest.param("# text = Bob sings\n# sent_id = 5", id="CoNLL-U"),
        pytest.param("# a comment", id="a comment"),
        pytest.param("#", id="a lone #"),
        pytest.param("\n#newdoc\n#id=5", id="behind a blank line"),
    ],
)
def test_comments_end_sentences_and_are_no_text(comment: str) -> None:
    corpus = read(f"Ada\tB-P\nsings\tO\n{comment}\nBob\tB-P\nsings\tO\n")
    assert [text.text for text in corpus.texts] == ["Ada sings", "Bob sings"]


def test_a_type_may_have_a_bar() -> None:
    assert surfaces(read("Ada B-P|Q\nis O")) == [[("Ada", "P|Q")]]


def test_hashtags_that_are_read_as_comments_are_counted() -> None:
    corpus = read("#newdoc\n# sent_id = 1\n#a=b\nAda\tB-P\n\n#ESB\to\nBob\tB-P\nis\tO\nin\tO\n")
    assert [text.text for text in corpus.texts] == ["Ada", "Bob is in"]
    assert (
        "2 lines before a sentence begin with a hashtag and were read as comments, the first is line 1" in corpus.notes
    )


def test_ids_and_sources_name_the_line() -> None:
    corpus = read_conll(["", "Ada B-P", "", "", "Bob O"], "dir/a.conll", ReadingSettings())
    assert [(text.id, text.source) for text in corpus.texts] == [
        ("a.conll:2", "dir/a.conll:2"),
        ("a.conll:5", "dir/a.conll:5"),
    ]


def test_ignored_types_are_left_out_and_counted() -> None:
    corpus = read("x B-OTH\nAda B-P\ny I-OTH", ignore_types=("OTH",))
    assert surfaces(corpus) == [[("Ada", "P")]]
    assert "2 spans have a type of ignore_types and were left out" in corpus.notes


def test_stray_tags_are_counted() -> None:
    corpus = read("Ada B-P\nin O\nRome I-L\nBob B-P\nEva I-L\nMax B-P")
    assert surfaces(corpus) == [[("Ada", "P"), ("Rome", "L"), ("Bob", "P"), ("Eva", "L"), ("Max", "P")]]
    assert "2 I- tags behind O or another type were read as the start of an entity, as conlleval does" in corpus.notes


START = "{} tags that continue no entity were read as the start of one"
END = "{} tags that no tag of their entity follows were read as its end"


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        pytest.param("BIOES", "B-P I-P E-P O S-P B-P E-P S-L", {}, id="in order"),
        pytest.param("BIOES", "O I-P E-P", {START.format("I-"): 1}, id="I- behind O"),
        pytest.param("BIOES", "S-P I-P E-P", {START.format("I-"): 1}, id="I- behind S-"),
        pytest.param("BIOES", "S-L E-P O E-P", {START.format("E-"): 2}, id="E- alone"),
        pytest.param("BIOES", "B-P I-P O", {END.format("I-"): 1}, id="I- before O"),
        pytest.param("BIOES", "B-P B-P E-P B-P S-P", {END.format("B-"): 2}, id="B- before another entity"),
        pytest.param("BIOES", "B-P", {END.format("B-"): 1}, id="B- at the end"),
        pytest.param("BIOES", "B-P E-L", {END.format("B-"): 1, START.format("E-"): 1}, id="another type"),
        pytest.param("BIOES", "O I-P O", {START.format("I-"): 1, END.format("I-"): 1}, id="I- alone"),
        pytest.param("BIOES", "U-P B-P L-P L-P", {START.format("L-"): 1}, id="BIOUL"),
        pytest.param("BMES", "M-P E-P O B-P M-P", {START.format("M-"): 1, END.format("M-"): 1}, id="BMES"),
        pytest.param("BIO", "B-P I-P B-P O B-L", {}, id="BIO in order"),
        pytest.param("IOB1", "I-P B-P I-P O I-L", {}, id="IOB1 in order"),
        pytest.param(
            "IOB1",
            "B-P O I-P B-L",
            {"B- tags behind O or another type were read as the start of an entity": 2},
            id="B- that IOB1 does not write",
        ),
    ],
)
def test_tags_out_of_order_are_counted_by_kind(scheme: str, tags: str, expected: dict[str, int]) -> None:
    corpus = read("\n".join(f"x {tag}" for tag in tags.split()), scheme=scheme)
    assert [note for note in corpus.notes if "conlleval" in note] == sorted(
        f"{count} {what}, as conlleval does" for what, count in expected.items()
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"joint": "none"}, "AdaLovelace", id="no joint"),
        pytest.param({"joint": "space"}, "Ada Lovelace", id="space"),
    ],
)
def test_joint(options: dict[str, str], expected: str) -> None:
    assert read("Ada B-P\nLovelace I-P", **options).texts[0].text == expected


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param("❤", id="one code point"),
        pytest.param("❤\ufe0f", id="a variation selector"),
        pytest.param("👍🏽", id="a skin tone"),
        pytest.param("👨\u200d👩\u200d👧", id="a joined family"),
        pytest.param("🇨🇳", id="a flag"),
        pytest.param("🏴\U000e0067\U000e0062\U000e007f", id="a flag with tags"),
        pytest.param("1\ufe0f\u20e3", id="a keycap"),
        pytest.param("e\u0301\u0323", id="combining marks"),
        pytest.param("……", id="the Chinese ellipsis"),
    ],
)
def test_what_readers_see_as_one_character_is_one(odd: str) -> None:
    corpus = read(f"我\tO\n在\tO\n中\tO\n国\tO\n2\tO\n0\tO\nA\tO\n{odd}\tO\nB\tO")
    assert corpus.texts[0].text == f"我在中国20A{odd}B"
    assert "the joint of tokens is none, as 100 % of the tokens are one character" in corpus.notes


@pytest.mark.parametrize("odd", ["中 ", "\ufffd\ufffd", "ﬀi"])
def test_one_odd_token_does_not_change_the_joint_of_the_others(odd: str) -> None:
    characters = "我在2012年9月买了新的iPhone5"
    body = "".join(f"{character}\tO\n" for character in characters) + "\n"
    corpus = read(body * 10 + f"好\tO\n{odd}\tO\n")
    assert [text.text for text in corpus.texts] == [characters] * 10 + [f"好{odd}"]
    assert "the joint of tokens is none, as 99.5 % of the tokens are one character" in corpus.notes


@pytest.mark.parametrize(
    "text",
    [pytest.param("买iPhone5,见http://t.cn/8", id="more Latin than Chinese"), pytest.param("서울사람", id="Korean")],
)
def test_characters_of_any_script_are_joined_without_blanks(text: str) -> None:
    assert read("".join(f"{character}\tO\n" for character in text)).texts[0].text == text


@pytest.mark.parametrize(
    ("text", "note"),
    [
        pytest.param(
            "Ada B-P\nI O",
            "the joint of tokens is a space, except beside a script without spaces on both sides "
            "(50 % of the tokens are one character)",
            id="Western words",
        ),
        pytest.param(
            "北京 B-P\n的 O\n人 O",
            "the joint of tokens is a space, except beside a script without spaces on either side "
            "(66.6 % of the tokens are one character)",
            id="Chinese words",
        ),
        pytest.param("# text = Ada\nAda B-P", None, id="the sentence is given"),
    ],
)
def test_the_joint_is_noted(text: str, note: str | None) -> None:
    assert [each for each in read(text).notes if "joint" in each] == ([note] if note else [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("이\tB-D\n날\tI-D\n \tO\n서\tB-L\n울\tI-L\n에\tO", "이날 서울에", id="Korean characters"),
        pytest.param("Ada\tB-P\n \tO\nlives\tO\n\u00a0\tO\nin\tO", "Ada lives\u00a0in", id="Western words"),
        pytest.param("It\tO\n's \tO\nAda\tB-P\n.\tO", "It's Ada.", id="blanks at the ends of tokens"),
        pytest.param("It\tO\n's\tO\n Ada\tO\n.\tO", "It's Ada.", id="blanks at the beginnings"),
    ],
)
def test_tokens_that_bring_their_own_blanks_get_no_others(text: str, expected: str) -> None:
    corpus = read(text)
    assert corpus.texts[0].text == expected
    assert any(note.startswith("the joint of tokens is none, as ") and "white space" in note for note in corpus.notes)


@pytest.mark.parametrize("options", [{}, {"joint": "space"}])
def test_no_blank_beside_the_odd_white_space(options: dict[str, str]) -> None:
    corpus = read("Ada\tB-P\nsings\tO\n\n" * 30 + "Ada\tB-P\n \tO\nis \tO\nhere\tO\nnow\tO\n", **options)
    assert [text.text for text in corpus.texts] == ["Ada sings"] * 30 + ["Ada is here now"]
    assert options or any(
        note.endswith("there is none beside the white space that 2 tokens bring") for note in corpus.notes
    )


@given(st.lists(st.sampled_from(["Ada", " ", "is ", " x", "\u3000", "北", "7"]), min_size=1, max_size=12))
def test_white_space_is_never_doubled(tokens: list[str]) -> None:
    corpus = read("\n".join([*["Ada\tO\nsings\tO\n"] * 200, *(f"{token}\tO" for token in tokens)]))
    text = corpus.texts[-1].text
    assert text.replace(" ", "") == "".join(tokens).replace(" ", "")
    assert text.count(" ") <= "".join(tokens).count(" ") + sum(
        not left[-1].isspace() and not right[0].isspace() for left, right in itertools.pairwise(tokens)
    )


CLUSTER = st.builds(
    "".join, st.tuples(st.sampled_from("北2a❤👍,"), st.sampled_from(["", "\ufe0f", "🏽", "\u0301\u0323", "\u200d👩"]))
)


@given(st.lists(CLUSTER, min_size=1, max_size=20))
def test_a_file_of_characters_reads_as_they_stand(clusters: list[str]) -> None:
    lines = [*(f"{cluster}\tO" for cluster in clusters), *["北\tO"] * 20]
    corpus = read("\n".join(lines), position_digits="keep")
    assert corpus.texts[0].text == "".join(clusters) + "北" * 20


def test_position_digits_can_be_kept() -> None:
    assert read("科0 B-T\n技1 I-T\n新0 O", position_digits="keep").texts[0].text == "科0技1新0"


POSITIONED = (
    "".join(f"{character}{index % 3}\tO\n" for index, character in enumerate("我在北京看见他们很高兴啊")) + "\n"
)


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        pytest.param("❤\ufe0f0\tO\n👍🏽1\tO", "❤\ufe0f👍🏽", id="characters of several code points"),
        pytest.param("20\tO\n01\tO\n12\tO", "201", id="digits with positions"),
    ],
)
def test_position_digits_behind_any_character(odd: str, text: str) -> None:
    corpus = read(POSITIONED * 10 + odd)
    assert [each.text for each in corpus.texts] == ["我在北京看见他们很高兴啊"] * 10 + [text]
    assert not [note for note in corpus.notes if "another digit" in note]


@pytest.mark.parametrize("options", [{}, {"position_digits": "strip"}])
def test_wrong_position_digits_are_left_out_and_counted(options: dict[str, str]) -> None:
    corpus = read(POSITIONED * 10 + "好2\tO\n吗3\tO\n的5\tO\n", **options)
    assert corpus.texts[-1].text == "好吗的"
    assert (
        "2 tokens carry another digit than that of their position, the first in line 131; it was left out as well"
    ) in corpus.notes


def test_a_token_without_its_position_digit_is_refused() -> None:
    with pytest.raises(AnnotationError, match=r"a.conll:132: the token '吗' is no character with its position"):
        read(POSITIONED * 10 + "好0\tO\n吗\tO\n的2\tO\n")


def test_digits_that_are_rarely_positions_are_kept_and_noted() -> None:
    corpus = read(POSITIONED + "好2\tO\n吗\tO\n")
    assert corpus.texts[1].text == "好2吗"
    assert (
        "the digits behind characters were kept as text, as only 85.7 % of the tokens carry that of their position; "
        "to leave them out, set position_digits: strip"
    ) in corpus.notes


@given(st.lists(st.lists(CLUSTER, min_size=1, max_size=4), min_size=1, max_size=5), st.integers(0, 9))
def test_position_digits_of_any_characters_are_stripped(words: list[list[str]], odd: int) -> None:
    lines = [f"{cluster}{position}\tO" for word in words for position, cluster in enumerate(word)]
    corpus = read(POSITIONED * 10 + "\n".join([*lines, "", f"好{odd}\tO"]))
    assert [text.text for text in corpus.texts[-2:]] == ["".join(map("".join, words)), "好"]


def test_numbers_behind_letters_are_not_taken_for_positions() -> None:
    assert read("Q1 O\nQ2 O\nAda B-P").texts[0].text == "Q1 Q2 Ada"
    assert read("Q0 O\nT0 O\nU0 B-P").texts[0].text == "Q0 T0 U0"


def test_the_tag_column_can_be_given() -> None:
    text = "1 Ada B-P B-Q\n2 is O O"
    with pytest.raises(
        AnnotationError, match=r"a.conll:1: the columns 3 and 4 all hold tags, expected one; set tag_column"
    ):
        read(text)
    assert surfaces(read(text, tag_column=4)) == [[("Ada", "Q")]]


@pytest.mark.parametrize(
    ("text", "texts", "column"),
    [
        pytest.param("1\tAda\tB-P\n2\tis\tO\n\n3\tBob\tB-P\n4\tis\tO", ["Ada is", "Bob is"], 2, id="running numbers"),
        pytest.param("1-1\tAda\tB-P\n1-2\tis\tO\n\n2-1\tBob\tB-P", ["Ada is", "Bob"], 2, id="WebAnno"),
        pytest.param("bc/x 0 0 In IN O\nbc/x 0 1 Rome NNP B-G", ["In Rome"], 4, id="name of the document"),
        pytest.param(
            "a 7 Ada B-P\na 7 is O\n\nb 8 Bob O\nb 8 is O", ["Ada is", "Bob is"], 3, id="sentence and its number"
        ),
        pytest.param(
            "# sent_id = 1\ns1\t1\tAda\tB-P\ns1\t2\tis\tO\n# sent_id = 2\ns2\t1\tBob\tB-P\ns2\t2\tis\tO",
            ["Ada is", "Bob is"],
            3,
            id="only comments between sentences",
        ),
        pytest.param("x y O\n" + "1 Ada B-P\n2 is O\n" * 20, None, 2, id="one odd number"),
        pytest.param("1 2008 B-T\n2 7 O\n3 2009 O", ["2008 7 2009"], 2, id="every token is a number"),
        pytest.param("2008 B-T\n7 O", ["2008 7"], 1, id="numbers, no other column"),
        pytest.param("ha UH O\nha UH O\nho UH O", ["ha ha ho"], 1, id="the other column is constant"),
        pytest.param("Ada x B-P\n\nBob y B-P", ["Ada", "Bob"], 1, id="sentences of one token"),
    ],
)
def test_the_token_column_is_found_and_noted(text: str, texts: list[str] | None, column: int) -> None:
    corpus = read(text)
    assert texts is None or [annotated.text for annotated in corpus.texts] == texts
    assert corpus.notes[0].startswith(f"the tokens stand in column {column} of ")


def test_the_token_column_can_be_given() -> None:
    text = "Ada ada B-P\nIs is O"
    assert read(text).texts[0].text == "Ada Is"
    assert read(text, token_column=2).texts[0].text == "ada is"
    assert read("O B-P\nO O", token_column=1, joint="space").texts[0].text == "O O"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("2-3\tda\tO", r"a.conll:3: the row 2-3 with 'da' stands for several words", id="several words"),
        pytest.param("1.1\t_\tO", r"a.conll:3: the row 1.1 with '_' is an empty node", id="an empty node"),
    ],
)
@pytest.mark.parametrize("comment", ["# text = Vou da casa", "# sent_id = 5"])
def test_rows_that_are_no_token_are_refused(row: str, message: str, comment: str) -> None:
    with pytest.raises(AnnotationError, match=f"^{message}"):
        read(f"{comment}\n1\tVou\tO\n{row}\n2\tde\tO\n3\ta\tO\n4\tcasa\tB-L")


def test_tokens_that_look_like_rows_of_several_words_are_tokens() -> None:
    assert read("1\twon\tO\n2\t2-3\tO\n3\t1.5\tB-N").texts[0].text == "won 2-3 1.5"


def test_chunks_are_no_entities_where_the_file_has_none() -> None:
    corpus = read("EU NNP I-NP O\nrejects VBZ I-VP O\n. . O O")
    assert surfaces(corpus) == [[]]
    assert "the tags stand in column 4 of 4" in corpus.notes


def test_a_line_of_very_many_blanks_takes_no_time() -> None:
    # With a pattern that can share blanks between its parts this takes minutes.
    assert read("#" + " " * 200_000 + "x\nAda\tB-P\n").texts[0].text == "Ada"
    assert read("# text " + " \t" * 100_000 + "x\nAda\tB-P\n").texts[0].text == "Ada"


@given(st.lists(st.lists(st.sampled_from(["Ada", "is", "#x", "北京", "7", "1-2"]), min_size=1, max_size=6), min_size=2))
def test_numbers_and_names_of_documents_beside_the_tokens_change_nothing(sentences: list[list[str]]) -> None:
    sentences = [*sentences, ["Ada", "sings", "well"]]
    plain = ["\n".join(f"{token}\tO" for token in tokens) for tokens in sentences]
    more = [
        "\n".join(f"doc/{number}\t{place}\t{token}\tO" for place, token in enumerate(tokens))
        for number, tokens in enumerate(sentences)
    ]
    read_plain, read_more = (
        read("\n\n".join(parts), token_column=column) for parts, column in ((plain, 1), (more, None))
    )
    assert [text.text for text in read_more.texts] == [text.text for text in read_plain.texts]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        pytest.param("", {}, r"a.conll:1: the corpus is empty", id="empty"),
        pytest.param("\n \n# x = y\n", {}, r"a.conll:1: the corpus is empty", id="only comments and blanks"),
        pytest.param("just\nwords\n", {}, r"most lines have 1 column; expected 2 or more", id="one column"),
        pytest.param("Ada NN\nis VB", {}, r"no column holds tags; .* expected O \(the letter\), B-PER", id="no tags"),
        pytest.param("Ada B-P\nis 0\nno 0\nne 0", {}, r"no column holds tags; .*'0'", id="zeros for O"),
        pytest.param(
            "Ada B-P\nis O\nold\nyet O",
            {},
            r"a.conll:3: the line 'old' has 1 columns; expected 2",
            id="a column is missing",
        ),
        pytest.param(
            "Ada\tB-P\nis\tO\nso\tO\tx",
            {},
            r"a.conll:3: .* has 3 columns; expected 2 separated by tabs",
            id="a column too many",
        ),
        pytest.param(
            "Ada B-P\nis O\na O\nb O\nc P", {}, r"a.conll:5: expected O or B-.*'P'; token 'c'; mend", id="no tag"
        ),
        pytest.param(
            "Ada B-P\nis E-P",
            {"scheme": "BIO"},
            r"a.conll:2: the tag 'E-P' is outside the scheme BIO",
            id="tag outside the scheme",
        ),
        pytest.param(
            "In\tO\n#ESB\tI.event\nRome\tB-L\nx\tO",
            {},
            r"a.conll:2: the line .* begins with a hashtag, .*: column 2 holds 'I.event', which is no tag",
            id="a hashtag without a tag",
        ),
        pytest.param(
            "In O O\n#ESB B-L\nis O O\nRome O B-L",
            {},
            r"a.conll:2: the line '#ESB B-L' .*: it has 2 columns, expected 3 separated by blanks",
            id="a hashtag without a column",
        ),
        pytest.param(
            "In O\n#a\n#b\nRome B-L\nis O", {}, r"2 problems\na.conll:2: .* 1 columns.*\na.conll:3: ", id="two hashtags"
        ),
        pytest.param(
            "Bank\tB-O\nof\tI-O\nChina\tI-O|B-L\nis\tO|O\nit\tO",
            {},
            r"a.conll:3: 'I-O\|B-L' are several tags, .*expected one tag a token.*\na.conll:4: 'O\|O' are",
            id="several tags in a cell",
        ),
        pytest.param("Ada O|O\nis O|O", {}, r"a.conll:1: 'O\|O' are several tags", id="several tags in every cell"),
        pytest.param("\tO\nAda\tB-P", {}, r"a.conll:1: the token is empty", id="empty token"),
        pytest.param(
            "Ada B-P\nis O",
            {"tag_column": 3},
            r"tag_column is 3, but most lines have 2 columns",
            id="tag column too large",
        ),
        pytest.param(
            "Ada B-P\nis O",
            {"token_column": 3},
            r"token_column is 3, but most lines have 2 columns",
            id="token column too large",
        ),
        pytest.param(
            "科0 B-T\n技 I-T",
            {"position_digits": "strip"},
            r"a.conll:2: the token '技' is no character with its position",
            id="no position digit",
        ),
        pytest.param(
            "# text = Ada\nAda\tB-P\nis\tO", {}, r"a.conll:3: the token 'is' does not continue", id="text too short"
        ),
        pytest.param(
            "# text = Ada is\nAda\tB-P\n\nis\tO",
            {},
            r"a.conll:1: the tokens end before .* 'is' at code point 4",
            id="text too long",
        ),
        pytest.param("# text = Ada is\n\nis\tO", {}, r"a.conll:1: the tokens end before", id="text without tokens"),
        pytest.param(
            "a\u00a0\tB-P\nb\tO",
            {},
            r"a.conll:1: the span \[0, 2\) P has white space at its edges",
            id="white space in a token",
        ),
    ],
)
def test_refused(text: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(text, **options)


def test_one_error_has_many_problems() -> None:
    lines = ["Ada B-P", "is O"] * 200 + ["bad X"] * 25
    with pytest.raises(AnnotationError) as caught:
        read("\n".join(lines))
    message = str(caught.value).split("\n")
    assert message[0] == "a.conll: 25 problems"
    assert message[1].startswith("a.conll:401: ")
    assert message[20].startswith("a.conll:420: ")
    assert message[21:] == ["... and 5 more"]


def test_very_long_sentences_are_kept() -> None:
    corpus = read("\n".join(["长 O"] * 100_000 + ["江 B-L"]))
    assert len(corpus.texts[0].text) == 100_001
    assert surfaces(corpus) == [[("江", "L")]]


TOKEN = st.text(st.sampled_from("ab北京，é😀\u200b#'3"), min_size=1, max_size=3)


@given(st.lists(st.lists(TOKEN, min_size=1, max_size=8), min_size=1, max_size=5), st.data())
def test_entities_cover_their_tokens(sentences: list[list[str]], data: st.DataObject) -> None:
    scheme = data.draw(st.sampled_from(["BIO", "IOB1", "BIOES", "BMES"]))
    lines, expected = [], []
    for tokens in sentences:
        last = data.draw(st.integers(1, len(tokens)))
        first = data.draw(st.integers(0, last - 1))
        tags = tags_from_entities([(first, last, "P")], len(tokens), scheme)  # type: ignore[arg-type]
        lines += [f"{token}\t{tag}" for token, tag in zip(tokens, tags, strict=True)] + [""]
        expected.append("".join(tokens[first:last]))
    corpus = read_conll(lines, "a.conll", ReadingSettings(scheme=scheme, position_digits="keep"))  # type: ignore[arg-type]
    assert [found[0][0].replace(" ", "") for found in surfaces(corpus)] == expected
    assert not [note for note in corpus.notes if "conlleval" in note]
    assert [text.text.replace(" ", "") for text in corpus.texts] == ["".join(tokens) for tokens in sentences]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_change_nothing(ending: str, mark: str) -> None:
    data = (mark + ending.join(["Ada\tB-P", "is\tO", "", "Bob\tB-P"])).encode()
    corpus = parse_corpus(data, "a.conll", ReadingSettings())
    assert [text.text for text in corpus.texts] == ["Ada is", "Bob"]
    assert surfaces(corpus) == [[("Ada", "P")], [("Bob", "P")]]


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="shared/data is not here")
@pytest.mark.parametrize(
    ("name", "texts", "entities"),
    [
        ("uner_zh_gsdsimp/zh_gsdsimp-ud-train.iob2", 3997, 6118),
        ("uner_zh_gsdsimp/zh_gsdsimp-ud-dev.iob2", 500, 753),
        ("uner_zh_gsdsimp/zh_gsdsimp-ud-test.iob2", 500, 763),
        ("wnut17/wnut17train.conll", 3394, 1975),
        ("wnut17/emerging.dev.conll", 1009, 836),
        ("wnut17/emerging.test.annotated", 1287, 1079),
        ("crossner_politics/train.txt", 200, 1304),
        ("crossner_politics/dev.txt", 541, 3482),
        ("crossner_politics/test.txt", 651, 4209),
    ],
)
def test_public_corpora(name: str, texts: int, entities: int) -> None:
    path = SHARED_DATA / name
    corpus = read_corpus(str(path), ReadingSettings(ignore_types=("OTH",)))
    assert len(corpus.texts) == texts
    assert sum(len(text.entities) for text in corpus.texts) == entities
    # Independently of the reader: the tokens behind B- and I-, joined, are the surfaces.
    column = 1 if "iob2" in name else 0
    expected: list[str] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        fields = line.split("\t")
        tag = fields[column + 1] if len(fields) > column + 1 else "O"
        if tag.startswith("B-"):
            expected.append("")
        if tag != "O":
            expected[-1] += fields[column] if not tag.endswith("-OTH") else ""
    found = [text.text[e.start : e.end].replace(" ", "") for text in corpus.texts for e in text.entities]
    assert found == [surface.replace(" ", "") for surface in expected if surface]
