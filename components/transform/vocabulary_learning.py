"""A vocabulary learned from the words of a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner

from components.transform.code_points import CJK, PUNCTUATION, code_point_tables
from components.transform.vocabulary import CLS, MASK, PAD, SEP, UNK, Vocabulary, VocabularyError

RESERVED_TOKENS = (PAD, UNK, CLS, SEP, MASK)

_MAX_PIECE_CHARACTERS = 30

# The search for a threshold ends where this fraction of the room is left.
_SLACK = 0.05


def learn_vocabulary(word_counts: Mapping[str, int], *, size: int, minimum_count: int) -> Vocabulary:
    """Learns word pieces from words as `words.split_words` gives them; equal counts give the same vocabulary.

    Characters that are always words of their own (CJK, punctuation) enter by their counts. What remains of `size` goes
    to the pieces of all other words, learned by TF Text's top-down algorithm; each of their characters enters as well,
    alone and as a continuation, so that a rare word is spelled rather than unknown.

    Args:
        word_counts: how often each word occurs.
        size: the most pieces the vocabulary may have, [PAD], [UNK], [CLS], [SEP] and [MASK] included.
        minimum_count: rarer characters and pieces stay out, so that [UNK] occurs in training.

    Raises:
        VocabularyError: there are no words.
    """
    if not word_counts:
        raise VocabularyError("cannot learn a vocabulary: the train split has no words; give it texts or a vocab.txt")
    alone = {word: count for word, count in word_counts.items() if _is_always_alone(word)}
    spelled = {word: count for word, count in word_counts.items() if word not in alone}
    free = size - len(RESERVED_TOKENS)
    characters = _most_frequent(alone, minimum_count, free)
    pieces = _learn_pieces(spelled, free - len(characters), minimum_count)
    return Vocabulary((*RESERVED_TOKENS, *sorted(characters), *pieces))


def _is_always_alone(word: str) -> bool:
    tables = code_point_tables(lower_case=False)
    code = ord(word[0])
    return len(word) == 1 and bool(tables.original.value(code) & CJK or tables.normalized.value(code) & PUNCTUATION)


def _most_frequent(counts: Mapping[str, int], minimum_count: int, number: int) -> list[str]:
    frequent = [item for item, count in counts.items() if count >= minimum_count]
    return sorted(frequent, key=lambda item: (-counts[item], item))[: max(number, 0)]


def _learn_pieces(word_counts: Mapping[str, int], size: int, minimum_count: int) -> list[str]:
    character_counts: Counter[str] = Counter()
    for word, count in word_counts.items():
        for character in word:
            character_counts[character] += count
    # Each character takes two pieces; at most half of the room is theirs.
    alphabet = sorted(_most_frequent(character_counts, minimum_count, size // 4))
    spellable = [
        (word, count)
        for word, count in sorted(word_counts.items())
        if len(word) <= _MAX_PIECE_CHARACTERS and set(word) <= set(alphabet)
    ]
    characters = dict.fromkeys(piece for character in alphabet for piece in (character, f"##{character}"))

    def pieces_above(threshold: int) -> list[str]:
        learned = learner.learn_with_thresh(spellable, threshold, parameters)
        return [*characters, *(piece for piece in learned if piece not in characters)]

    parameters = learner.Params(
        upper_thresh=None,
        lower_thresh=None,
        num_iterations=4,
        max_input_tokens=-1,
        max_token_length=_MAX_PIECE_CHARACTERS,
        max_unique_chars=len(alphabet),
        vocab_size=size,
        slack_ratio=_SLACK,
        include_joiner_token=True,
        joiner="##",
        reserved_tokens=[],
    )
    # The lowest threshold whose pieces fit. A step takes seconds on a large corpus, so double first: small corpora are
    # done with one step, and the answer is far below the greatest count, where the library's own search begins.
    too_low, threshold = minimum_count - 1, minimum_count
    pieces = pieces_above(threshold)
    while len(pieces) > size:
        too_low, threshold = threshold, 2 * threshold
        pieces = pieces_above(threshold)
    while threshold - too_low > 1 and len(pieces) < (1 - _SLACK) * size:
        middle = (too_low + threshold) // 2
        candidate = pieces_above(middle)
        if len(candidate) > size:
            too_low = middle
        else:
            threshold, pieces = middle, candidate
    return pieces
