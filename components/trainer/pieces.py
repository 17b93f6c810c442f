"""What the training texts say of word pieces: which belong together, and which teach the tagger.

A word is a piece and the `##` pieces after it, so `@paulwalk` is two words without whitespace between them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from components.trainer.settings import TrainerSettings
from components.trainer.training_data import TokenizedTexts
from components.transform import code_points
from components.transform.vocabulary import Vocabulary

# One entity in a hundred that begins or ends inside may be a slip of annotators; more are the language's way.
GREATEST_SHARE_INSIDE = 0.01


class PieceKinds(NamedTuple):
    """What a token of the vocabulary is: bool [vocabulary] each.

    Attributes:
        continues: it continues a word.
        lettered: it has a letter or a digit; [UNK], which may stand for anything, counts as having none.
        ideograph: it is an ideograph, which is a word of its own, as texts have it that write no whitespace.
    """

    continues: np.ndarray
    lettered: np.ndarray
    ideograph: np.ndarray


def piece_kinds(vocabulary: Vocabulary) -> PieceKinds:
    """Returns the kinds of the tokens of a vocabulary."""
    properties = code_points.code_point_tables(lower_case=False).original
    lettered = np.array([any(map(str.isalnum, token)) for token in vocabulary.tokens])
    lettered[vocabulary.unk_id] = False
    return PieceKinds(
        continues=continuation_tokens(vocabulary),
        lettered=lettered,
        ideograph=np.array(
            [len(token) == 1 and bool(properties.value(ord(token)) & code_points.CJK) for token in vocabulary.tokens]
        ),
    )


def continuation_tokens(vocabulary: Vocabulary) -> np.ndarray:
    """Returns, for each token of the vocabulary, whether it continues a word: bool [vocabulary]."""
    return np.array([token.startswith("##") and len(token) > 2 for token in vocabulary.tokens])


def has_whole_words(settings: TrainerSettings, texts: TokenizedTexts, continuation: np.ndarray) -> bool:
    """Tells whether entities are decoded by words: as the settings say, else if those of the texts are whole words."""
    if settings.whole_words is not None:
        return settings.whole_words
    return share_inside(texts, continuation[texts.token_ids]) <= GREATEST_SHARE_INSIDE


def is_annotated_by_whitespace(settings: TrainerSettings, texts: TokenizedTexts, continuation: np.ndarray) -> bool:
    """Tells whether annotators marked what whitespace separates: as the settings say, else by the texts.

    By the texts: if entities begin and end at whitespace. A loss that is not of single pieces cannot make use of it.
    """
    if settings.annotated_by_whitespace is not None:
        return settings.annotated_by_whitespace
    directly = follow_directly(texts, continuation[texts.token_ids])
    return settings.loss_is_of_single_pieces and share_inside(texts, directly) <= GREATEST_SHARE_INSIDE


def counted_pieces(texts: TokenizedTexts, kinds: PieceKinds) -> np.ndarray:
    """Returns which pieces count in the loss where texts are annotated by whitespace, bool [pieces].

    Those of entities, and of words that begin a text or follow whitespace; an ideograph counts as if whitespace stood
    around it.

    Example: of the pieces @ paul ##walk : / / of `@paulwalk ://` the first and the fourth, if none is of an entity.
    """
    continues = kinds.continues[texts.token_ids]
    ideograph = kinds.ideograph[texts.token_ids]
    joined = follow_directly(texts, continues) & ~ideograph
    joined[1:] &= ~ideograph[:-1]
    return ~joined[_begin_of_run(continues)] | (texts.tag_ids != 0)


def follow_directly(texts: TokenizedTexts, continues: np.ndarray) -> np.ndarray:
    """Returns whether no whitespace stands before each piece, bool [pieces]; the first of a text does not follow.

    Offsets tell it, and of pieces that continue a word that they do: a character that the tokenizer drops may stand
    before them.

    Args:
        texts: with the offsets.
        continues: bool [pieces], the piece continues a word.
    """
    directly = continues.copy()
    directly[1:] |= texts.token_start[1:] == texts.token_end[:-1]
    first = texts.row_splits[:-1]
    directly[first[first < len(directly)]] = False
    return directly


def _begin_of_run(goes_on: np.ndarray) -> np.ndarray:
    """Returns for each piece the nearest one, at or before it, that does not go on: int [pieces]."""
    return np.maximum.accumulate(np.where(goes_on, 0, np.arange(len(goes_on))))


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
