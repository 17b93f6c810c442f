"""What the training texts say of word pieces: which belong together, and which teach the tagger.

A word is a piece and the `##` pieces after it, so `@paulwalk` is two words without whitespace between them.
"""

from __future__ import annotations

import numpy as np

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


def counted_pieces(settings: TrainerSettings, texts: TokenizedTexts) -> np.ndarray | None:
    """Returns which pieces count in the loss, bool [pieces]: of entities and after whitespace; None if all do.

    As the settings say; if they say nothing, not all where entities begin and end at whitespace and the loss is of
    single pieces. Those of entities count everywhere: that `U.S.` is a place says that each of its four pieces is.
    """
    directly = follow_directly(texts)
    choice = settings.counted_pieces
    if choice is None:
        by_piece = settings.decoder == "softmax" and settings.loss == "masked"
        at_whitespace = share_inside(texts, directly) <= GREATEST_SHARE_INSIDE
        choice = "after_whitespace" if by_piece and at_whitespace else "all"
    return None if choice == "all" else ~directly | (texts.tag_ids != 0)


def follow_directly(texts: TokenizedTexts) -> np.ndarray:
    """Returns whether each piece goes on where the piece before it in its text ends, bool [pieces].

    Example: of the pieces @ paul ##walk : of `@paulwalk :` the second and third do.
    """
    directly = np.zeros(len(texts.token_ids), bool)
    directly[1:] = texts.token_start[1:] == texts.token_end[:-1]
    first = texts.row_splits[:-1]
    directly[first[first < len(directly)]] = False
    return directly


def share_inside(texts: TokenizedTexts, inside: np.ndarray) -> float:
    """Returns the share of entities that begin or end inside a unit of several pieces, counted on their tags.

    Example: over the pieces 서울 ##에서 the tags B-LOC O are an entity that ends inside a word.

    Args:
        texts: with the tags.
        inside: bool [pieces], the piece continues the unit of the piece before it.
    """
    previous = np.concatenate([[0], texts.tag_ids[:-1]])
    begins = texts.tag_ids % 2 == 1
    ends = (texts.tag_ids == 0) & (previous != 0)
    return int(np.sum(inside & (begins | ends))) / max(texts.entity_count, 1)
