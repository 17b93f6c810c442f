"""What counts as the same answer."""

from __future__ import annotations

import numpy as np
import pytest

from components.infra_validator.comparison import difference

COUNT = np.array([1, 0], np.int32)
TEXT = np.array([[b"\xe5\x8c\x97\xe4\xba\xac"], [b""]], dtype=object)
SCORE = np.array([[0.5], [0.0]], np.float32)
MODEL = {"entity_count": COUNT, "entity_text": TEXT, "entity_score": SCORE}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({}, None, id="equal"),
        pytest.param({"entity_score": SCORE + np.float32(5e-5)}, None, id="score within the tolerance"),
        pytest.param(
            {"entity_score": np.array([[0.5], [0.001]], np.float32)},
            "entity_score[1][0]: the server says 0.001, the model 0.0",
            id="score beyond the tolerance",
        ),
        pytest.param(
            {"entity_score": np.array([[np.nan], [0.0]], np.float32)},
            "entity_score[0][0]: the server says nan, the model 0.5",
            id="not a number",
        ),
        pytest.param(
            {"entity_count": np.array([1, 1], np.int32)},
            "entity_count[1]: the server says 1, the model 0",
            id="whole number",
        ),
        pytest.param(
            {"entity_text": np.array([[b"x"], [b""]], dtype=object)},
            "entity_text[0][0]: the server says 'x', the model '北京'",
            id="string",
        ),
        pytest.param(
            {"entity_count": COUNT.astype(np.int64)},
            "entity_count: the server returns int64 of shape [2], the model int32 of shape [2]",
            id="type",
        ),
        pytest.param(
            {"entity_score": SCORE[:1]},
            "entity_score: the server returns float32 of shape [1, 1], the model float32 of shape [2, 1]",
            id="shape",
        ),
        pytest.param(
            {"entity_end": COUNT},
            "the server returns the outputs ['entity_count', 'entity_end', 'entity_score', 'entity_text'], "
            "the model ['entity_count', 'entity_score', 'entity_text']",
            id="another output",
        ),
    ],
)
def test_difference(change, expected):
    assert difference(MODEL, {**MODEL, **change}, 1e-4) == expected


def test_empty_outputs_are_equal():
    empty = {"entity_start": np.zeros((2, 0), np.int32)}

    assert difference(empty, dict(empty), 1e-4) is None
