"""What the training texts say of word pieces: which belong together, and which teach the tagger.

A word is a piece and the `##` pieces after it, so `@paulwalk` is two words without whitespace between them.
"""

from __future__ import annotations

import numpy as np

from components.settings import SettingsError
from components.trainer.settings import TrainerSettings
from components.trainer.training_data import TokenizedTexts
from components.transform.vocabulary import Vocabulary

# One entity in a hundred that begins or ends inside may be a slip of annotators; more are the language's way.
GREATEST_SHARE_INSIDE = 0.01


def continuation_tokens(vocabulary: Vocabulary) -> tuple[bool, ...]:
    """Returns, for each token of the vocabulary, whether it continues a word."""
    return tuple(token.startswith("##") and len(token) > 2 for token in vocabulary.tokens)


def has_whole_words(settings: TrainerSettings, texts: TokenizedTexts, continuation: tuple[bool, ...]) -> bool:
    """Tells whether entities are decoded by words: as the settings say, else if those of the texts are whole words."""
    if settings.whole_words is not None:
        return settings.whole_words
    return share_inside(texts, np.array(continuation)[texts.token_ids]) <= GREATEST_SHARE_INSIDE


def counted_pieces(
    settings: TrainerSettings, texts: TokenizedTexts, continuation: tuple[bool, ...], *, whole_words: bool
) -> np.ndarray | None:
    """Returns which pieces count in the loss, bool [pieces]: of entities and after whitespace; None if all do.

    As the settings say; if they say nothing, not all where entities begin and end at whitespace, words are decoded as a
    whole and the loss is of single pieces. Those of entities count everywhere: that `U.S.` is a place says that each of
    its four pieces is.

    Args:
        settings: of the trainer.
        texts: of the train split.
        continuation: bool [vocabulary], which pieces continue a word.
        whole_words: whether words are decoded as a whole, see `has_whole_words`.

    Raises:
        SettingsError: the settings want the pieces after whitespace, and words are not decoded as a whole.
    """
    directly = follow_directly(texts, continuation)
    choice = settings.counted_pieces
    if choice is None:
        by_piece = settings.decoder == "softmax" and settings.loss == "masked"
        at_whitespace = share_inside(texts, directly) <= GREATEST_SHARE_INSIDE
        choice = "after_whitespace" if by_piece and whole_words and at_whitespace else "all"
    if choice == "all":
        return None
    if not whole_words:
        raise SettingsError(
            'trainer.counted_pieces: "after_whitespace" leaves the later pieces of words untrained, and entities of '
            'this corpus may end inside words; take "all", or set whole_words'
        )
    return ~directly | (texts.tag_ids != 0)


def follow_directly(texts: TokenizedTexts, continuation: tuple[bool, ...]) -> np.ndarray:
    """Returns whether no whitespace stands before each piece, bool [pieces]; the first of a text does not follow.

    Offsets tell it, and of `##` pieces that they are such: a character that the tokenizer drops may stand before them.

    Example: of the pieces @ paul ##walk : of `@paulwalk :` the second and third do.
    """
    directly = np.array(continuation)[texts.token_ids]
    directly[1:] |= texts.token_start[1:] == texts.token_end[:-1]
    first = texts.row_splits[:-1]
    directly[first[first < len(directly)]] = False
    return directly


def share_inside(texts: TokenizedTexts, inside: np.ndarray) -> float:
    """Returns how many ends of entities lie inside a unit of several pieces, over the entities, counted on their tags.

    Example: over the pieces 서울 ##에서 the tags B-LOC O are an entity that ends inside a word.

    Args:
        texts: with the tags.
        inside: bool [pieces], the piece continues the unit of the piece before it.
    """
    previous = np.concatenate([[0], texts.tag_ids[:-1]])
    begins = texts.tag_ids % 2 == 1
    ends = (texts.tag_ids == 0) & (previous != 0)
    return int(np.sum(inside & (begins | ends))) / max(texts.entity_count, 1)
