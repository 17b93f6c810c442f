"""The tokenizer of a pretrained encoder: its case, as its folder declares it or as its vocabulary shows it.

Light: imports no TensorFlow.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from components.trainer.checkpoint_error import CheckpointError
from components.trainer.json_file import read_json_object

TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER = "tokenizer.json"
VOCABULARY = "vocab.txt"
_PREFIX = "continuing_subword_prefix"

# Cased vocabularies have A to Z in a third of their pieces if they are English, in 5 % if multilingual; uncased ones in
# none but special pieces. One in a hundred leaves room for pieces that were added to an uncased vocabulary by hand.
CASED_SHARE = 0.01
_SPECIAL = re.compile(r"\[.+\]")
_CAPITAL = re.compile("[A-Z]")


# Classes of transformers whose ids are those of google-research's FullTokenizer, whose settings stand in their file.
_BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast", "BertWordPieceTokenizer")
# This one may be any tokenizer: its tokenizer.json says which.
_ANY_CLASS = "PreTrainedTokenizerFast"


def declared_case(directory: pathlib.Path) -> bool | None:
    """Returns whether a folder's tokenizer lower-cases; None where nothing says it, as in google-research's folders.

    `do_lower_case` of `tokenizer_config.json` says it, or else the normalizer in `tokenizer.json`.

    Raises:
        CheckpointError: a file is damaged, or declares a tokenizer that gives other ids than ours would.
    """
    path, tokenizer_path = directory / TOKENIZER_CONFIG, directory / TOKENIZER
    values = read_json_object(path) if path.is_file() else {}
    lower_case = _boolean(path, values, "do_lower_case") if "do_lower_case" in values else None
    tokenizer_class = values.get("tokenizer_class")
    if tokenizer_class == _ANY_CLASS:
        return _case_of_tokenizer(tokenizer_path)
    if tokenizer_class is not None and tokenizer_class not in _BERT_CLASSES:
        raise _differs(path, f"tokenizer_class is {json.dumps(tokenizer_class)}, and not {_BERT_CLASSES[0]}")
    if lower_case is None and tokenizer_path.is_file():
        lower_case = _case_of_tokenizer(tokenizer_path)
    for name in ("do_basic_tokenize", "tokenize_chinese_chars"):
        if values.get(name, True) is not True:
            raise _differs(path, f"{name} is {json.dumps(values[name])}, and not true")
    _check_accents(path, values, lower_case)
    return lower_case


def check_vocabulary_file(directory: pathlib.Path) -> None:
    """Refuses a folder without `vocab.txt`, and says where its vocabulary may be found.

    Raises:
        CheckpointError: there is none.
    """
    if (directory / VOCABULARY).is_file():
        return
    remedy = "give one as transform.vocabulary"
    path = directory / TOKENIZER
    if path.is_file():
        if not _is_word_piece(read_json_object(path)):
            raise CheckpointError(
                f"{directory}: has no {VOCABULARY}, and its {TOKENIZER} is no WordPiece tokenizer, as BERT's is; "
                "take another encoder"
            )
        remedy = f"write the pieces of model.vocab in its {TOKENIZER} to it, one a line in the order of their ids"
    raise CheckpointError(f"{directory}: has no {VOCABULARY}; {remedy}")


def _case_of_tokenizer(path: pathlib.Path) -> bool:
    """Returns the case of a `tokenizer.json`, which must be BERT's in all but its case."""
    values = read_json_object(path)
    if not _is_word_piece(values):
        raise _differs(path, "its model is no WordPiece")
    normalizer = values.get("normalizer")
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        raise _differs(path, "its normalizer is no BertNormalizer")
    lower_case = _boolean(path, normalizer, "lowercase")
    if normalizer.get("handle_chinese_chars", True) is not True:
        raise _differs(path, f"handle_chinese_chars is {json.dumps(normalizer['handle_chinese_chars'])}, and not true")
    _check_accents(path, normalizer, lower_case)
    return lower_case


def _is_word_piece(tokenizer: Mapping[str, Any]) -> bool:
    model = tokenizer.get("model")
    # Before version 0.9 of tokenizers the type was not written; the others have no such prefix.
    return isinstance(model, dict) and model.get("type", "WordPiece" if _PREFIX in model else None) == "WordPiece"


def _check_accents(path: pathlib.Path, values: Mapping[str, Any], lower_case: bool | None) -> None:
    """Accents are stripped with lower-casing, and only then."""
    strip_accents = values.get("strip_accents")
    if strip_accents is not None and strip_accents is not lower_case:
        raise _differs(path, f"strip_accents is {json.dumps(strip_accents)}, and lower-casing {json.dumps(lower_case)}")


def _boolean(path: pathlib.Path, values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name)
    if not isinstance(value, bool):
        raise CheckpointError(f"{path}: {name}: expected true or false; received {json.dumps(value)}")
    return value


def _differs(path: pathlib.Path, difference: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {difference}, so the encoder was pretrained with other ids than our tokenizer gives; "
        "setting transform.lower_case passes over this file and accepts that"
    )


def cased_share(tokens: Sequence[str]) -> float:
    """Returns the share of the pieces with one of the letters A to Z; special pieces, in brackets, do not count.

    Example:
        >>> cased_share(["[CLS]", "the", "The", "##s", "中"])
        0.25
    """
    pieces = [token for token in tokens if token and not _SPECIAL.fullmatch(token)]
    return sum(bool(_CAPITAL.search(piece)) for piece in pieces) / len(pieces) if pieces else 0.0
