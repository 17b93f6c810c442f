from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import pytest
from fake_server import tagging_response
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import MalformedResponse
from serving.messages import (
    Entity,
    ModelSelection,
    TaggedText,
    batch_texts,
    model_spec,
    tag_request,
    tagged_texts,
    text_bytes,
)


@pytest.mark.parametrize(
    ("texts", "max_texts", "max_characters", "batches"),
    [
        pytest.param([], 2, 10, [], id="no text"),
        pytest.param([""], 2, 10, [[""]], id="an empty text is a text"),
        pytest.param(["a", "b", "c"], 2, 10, [["a", "b"], ["c"]], id="number of texts"),
        pytest.param(["ab", "c", "defg"], 8, 3, [["ab", "c"], ["defg"]], id="number of characters"),
        pytest.param(["abcdef", "g"], 8, 3, [["abcdef"], ["g"]], id="a long text goes alone"),
        pytest.param(["𠮷𠮷", "𠮷"], 8, 3, [["𠮷𠮷", "𠮷"]], id="code points, not bytes"),
    ],
)
def test_batch_texts(texts: list[str], max_texts: int, max_characters: int, batches: list[list[str]]) -> None:
    assert list(batch_texts(texts, max_texts=max_texts, max_characters=max_characters)) == batches


@given(st.lists(st.text(max_size=8)), st.integers(1, 5), st.integers(1, 12))
def test_batches_keep_every_text_in_order_within_the_limits(texts: list[str], most: int, characters: int) -> None:
    batches = list(batch_texts(texts, max_texts=most, max_characters=characters))

    assert [text for batch in batches for text in batch] == texts
    assert all(len(batch) <= most for batch in batches)
    assert all(len(batch) == 1 or sum(map(len, batch)) <= characters for batch in batches)


def test_batch_texts_is_lazy() -> None:
    def endless() -> Any:
        while True:
            yield "text"

    assert next(batch_texts(endless(), max_texts=3, max_characters=100)) == ["text"] * 3


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        pytest.param("one text", "received one str: pass [text]", id="a string is no list of texts"),
        pytest.param(["a", None], "text 1: expected a string; received NoneType", id="None among texts"),
        pytest.param([b"a"], "text 0: expected a string; received bytes", id="bytes"),
    ],
)
def test_batch_texts_refuses(texts: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message.replace("[", r"\[")):
        list(batch_texts(texts, max_texts=3, max_characters=100))


@given(st.text(alphabet=st.characters()))
def test_text_bytes_keeps_the_number_of_code_points(text: str) -> None:
    assert len(text_bytes(text).decode("utf-8")) == len(text)


def test_version_zero_is_sent_as_a_version() -> None:
    assert model_spec(ModelSelection("ner", version=0)).HasField("version")
    assert not model_spec(ModelSelection("ner")).HasField("version")


def test_version_and_label_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="expected a version or a version label, not both"):
        ModelSelection("ner", 1, "stable")


def test_tag_request() -> None:
    request = tag_request(["小明", ""], ModelSelection("ner", version_label="stable"))

    assert request.model_spec.version_label == "stable"
    assert list(request.inputs["text"].string_val) == ["小明".encode(), b""]
    assert [dimension.size for dimension in request.inputs["text"].tensor_shape.dim] == [2]


ENTITIES = [
    TaggedText("😀 AB 12", (Entity(2, 4, "CAP", "AB", 0.5), Entity(5, 7, "NUM", "12", 0.5))),
    TaggedText("none", ()),
]


@pytest.mark.parametrize("extra_width", [0, 3])
def test_rows_are_read_by_entity_count_not_by_width(extra_width: int) -> None:
    response = tagging_response(["😀 AB 12", "none"], extra_width)

    assert tagged_texts(["😀 AB 12", "none"], response) == ENTITIES


def test_numbers_may_come_as_tensor_content() -> None:
    response = tagging_response(["😀 AB 12", "none"])
    for name, code in (("entity_count", "i"), ("entity_start", "i"), ("entity_end", "i"), ("entity_score", "f")):
        tensor = response.outputs[name]
        values = tensor.float_val if code == "f" else tensor.int_val
        tensor.tensor_content = array(code, values).tobytes()
        del values[:]

    assert tagged_texts(["😀 AB 12", "none"], response) == ENTITIES


def _without_score(response: Any) -> None:
    del response.outputs["entity_score"]


def _count_above_width(response: Any) -> None:
    response.outputs["entity_count"].int_val[0] = 5


def _wrong_dtype(response: Any) -> None:
    response.outputs["entity_start"].dtype = 9


def _wrong_rows(response: Any) -> None:
    response.outputs["entity_start"].tensor_shape.dim[0].size = 3


def _wrong_rank(response: Any) -> None:
    del response.outputs["entity_end"].tensor_shape.dim[1]


def _end_outside(response: Any) -> None:
    response.outputs["entity_end"].int_val[1] = 99


def _byte_offsets(response: Any) -> None:
    response.outputs["entity_start"].int_val[0] += 1


def _short_content(response: Any) -> None:
    response.outputs["entity_end"].tensor_content = b"\0\0\0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(_without_score, "expected the output 'entity_score'; received entity_count, ", id="no score"),
        pytest.param(_count_above_width, r"entity_count\[0\]: expected 0 to 2; received 5", id="count above the width"),
        pytest.param(_wrong_dtype, "entity_start: expected int32; received the data type number 9", id="data type"),
        pytest.param(_wrong_rows, r"entity_start: expected shape \[2, E\]; received \[3, 2\]", id="number of rows"),
        pytest.param(_wrong_rank, r"entity_end: expected shape \[2, 2\]; received \[2\]", id="rank"),
        pytest.param(
            _end_outside, "row 0: expected 0 <= start < end <= 7.*received start 5, end 99", id="span outside"
        ),
        pytest.param(_byte_offsets, "row 0: entity_text 'AB' is not the text between 3 and 4", id="offsets not ours"),
        pytest.param(_short_content, "entity_end: expected 16 bytes; received 3", id="content too short"),
    ],
)
def test_response_that_breaks_the_contract(change: Callable[[Any], None], message: str) -> None:
    response = tagging_response(["😀 AB 12", "none"])
    change(response)

    with pytest.raises(MalformedResponse, match=message):
        tagged_texts(["😀 AB 12", "none"], response)
