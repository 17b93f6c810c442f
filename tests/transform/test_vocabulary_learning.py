from __future__ import annotations

import random

import pytest

from components.transform.vocabulary import VocabularyError
from components.transform.vocabulary_learning import learn_vocabulary

COUNTS = {
    "北": 5,
    "京": 2,
    "罕": 1,
    "，": 9,
    "!": 1,
    "play": 6,
    "playing": 5,
    "player": 4,
    "played": 1,
    "ж": 1,
    "2024": 3,
}


def test_frequent_characters_enter_and_rare_ones_do_not() -> None:
    tokens = learn_vocabulary(COUNTS, size=200, minimum_count=2).tokens
    assert tokens[:8] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "京", "北", "，")
    assert {"play", "p", "##p", "2024", "##4"} <= set(tokens)
    assert not {"罕", "!", "ж", "##ж", "##北"} & set(tokens)
    assert len(set(tokens)) == len(tokens)


def test_the_order_of_counting_does_not_matter() -> None:
    shuffled = list(COUNTS.items())
    random.Random(3).shuffle(shuffled)
    learned = learn_vocabulary(COUNTS, size=200, minimum_count=1)
    assert learn_vocabulary(dict(shuffled), size=200, minimum_count=1) == learned


@pytest.mark.parametrize("size", [100, 150, 400])
def test_the_size_is_kept(size: int) -> None:
    choose = random.Random(5).choice
    words = ["".join(choose("abcdefghij") for _ in range(2 + index % 6)) for index in range(3000)]
    counts = {word: 1 + index % 7 for index, word in enumerate(words)} | {chr(0x4E00 + i): i for i in range(2, 40)}
    vocabulary = learn_vocabulary(counts, size=size, minimum_count=2)
    assert 0.85 * size <= len(vocabulary) <= size


def test_more_characters_than_room() -> None:
    counts = {chr(0x4E00 + index): 1 + index for index in range(500)} | {"play": 9}
    vocabulary = learn_vocabulary(counts, size=100, minimum_count=1)
    assert len(vocabulary) == 100
    assert chr(0x4E00 + 499) in vocabulary.tokens
    assert chr(0x4E00) not in vocabulary.tokens


def test_words_of_one_script_only() -> None:
    assert learn_vocabulary({"北": 2}, size=100, minimum_count=1).tokens[5:] == ("北",)
    assert learn_vocabulary({"ab": 2}, size=100, minimum_count=1).id_of("ab") > 4


def test_nothing_to_learn_from() -> None:
    with pytest.raises(VocabularyError, match="the train split has no words"):
        learn_vocabulary({}, size=100, minimum_count=1)
