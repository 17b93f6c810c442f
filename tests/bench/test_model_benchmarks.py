"""Turns, settings and the spans of the peer: what could be wrong in the benchmarks without anybody seeing it."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.quality import changed_settings
from components.trainer.encoder_config import EncoderConfig
from components.trainer.settings import TrainerSettings

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"


@pytest.fixture(scope="module")
def peer() -> Any:
    """`bench/peer_quality.py`, whose libraries live in another environment."""
    stubs = {name: types.ModuleType(name) for name in ("torch", "transformers")}
    stubs["torch"].inference_mode = lambda: lambda function: function  # type: ignore[attr-defined]
    for name in ("AutoModelForTokenClassification", "AutoTokenizer", "get_linear_schedule_with_warmup"):
        setattr(stubs["transformers"], name, None)
    specification = importlib.util.spec_from_file_location("peer_quality", BENCH / "peer_quality.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in stubs.items():
            patch.setitem(sys.modules, name, stub)
        specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param("O O O", [], id="nothing"),
        pytest.param("B-x I-x O", [[0, 1, "x"]], id="one entity"),
        pytest.param("B-x B-x O", [[0, 0, "x"], [1, 1, "x"]], id="neighbours"),
        pytest.param("O I-x I-x", [[1, 2, "x"]], id="an I- without B- begins an entity"),
        pytest.param("B-x I-y O", [[0, 0, "x"], [1, 1, "y"]], id="another type begins an entity"),
        pytest.param("B-x O I-x", [[0, 0, "x"], [2, 2, "x"]], id="O ends it"),
    ],
)
def test_spans_of_the_peer(peer: Any, tags: str, expected: list[list]) -> None:
    words = [(0, 2), (3, 5), (6, 9)]
    assert peer.spans(words, tags.split()) == [[words[a][0], words[b][1], name] for a, b, name in expected]


@pytest.mark.parametrize(
    ("all_pieces", "expected"),
    [
        pytest.param(False, [-100, 0, 1, -100, 2, -100], id="the first piece of a word"),
        pytest.param(True, [-100, 0, 1, 2, 2, -100], id="all pieces"),
    ],
)
def test_labels_of_the_peer(peer: Any, all_pieces: bool, expected: list[int]) -> None:
    class Encoding(dict):
        def word_ids(self) -> list[int | None]:
            return [None, 0, 1, 1, 2, None]

    text = {"text": "ab Cd e", "words": [(0, 2), (3, 5), (6, 7)], "entities": [[3, 7, "x"]]}
    encoded = peer.encode(
        text, lambda words, **_: Encoding(input_ids=[1] * 6), ["O", "B-x", "I-x"], all_pieces=all_pieces
    )
    assert encoded["labels"] == expected
    assert encoded["begun"] == [None, 0, 1, None, 2, None]


def test_f1_of_the_peer_counts_each_text_by_itself(peer: Any) -> None:
    texts = [{"entities": [[0, 2, "x"]]}, {"entities": [[0, 2, "x"]]}]
    assert peer.f1(texts, [[[0, 2, "x"]], [[0, 2, "y"]]]) == 0.5


def test_a_run_is_known_by_what_is_trained_and_not_by_where() -> None:
    settings = TrainerSettings(fusion="dynamic", epochs=3)
    moved = dataclasses.replace(settings, checkpoint_directory="/elsewhere", encoder_digest="1")
    assert changed_settings(settings) == changed_settings(moved) == {"fusion": "dynamic", "epochs": 3}
    assert changed_settings(dataclasses.replace(settings, seed=2))["seed"] == 2


def test_contestants_take_turns_on_every_batch() -> None:
    from bench.model_speed import take_turns

    calls: list[tuple[str, int]] = []

    def contestant(name: str) -> Any:
        def time_batch(lengths: np.ndarray) -> float:
            calls.append((name, len(lengths)))
            return float(len(lengths))

        return time_batch

    turns = take_turns(
        {"ours": contestant("ours"), "peer": contestant("peer")}, [np.ones(2), np.ones(3)], {"ceiling": lambda: 5.0}
    )
    assert calls[2:] == [("ours", 2), ("peer", 2), ("ours", 3), ("peer", 3)]
    assert turns.seconds == {"ours": [2.0, 3.0], "peer": [2.0, 3.0]}
    assert turns.ceilings == {"ceiling": [5.0, 5.0]}


def test_a_forward_pass_and_a_training_step_can_be_timed() -> None:
    from bench.model_speed import tag_batch, train_batch

    tiny = EncoderConfig(vocab_size=50, hidden_size=8, num_layers=2, num_heads=2, intermediate_size=16)
    lengths = np.array([5, 3, 7])
    assert tag_batch("float32", tiny)(lengths) > 0
    assert train_batch(tiny)(lengths) > 0


def test_memory_of_a_process_counts_those_it_started() -> None:
    from bench.measuring import process_memory

    before = process_memory(os.getpid())
    code = "data = bytearray(b'1') * 60_000_000; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        grown = process_memory(os.getpid())["Pss_Anon"] - before["Pss_Anon"]
        child.communicate(b"\n")
    assert 60e6 < grown < 120e6
