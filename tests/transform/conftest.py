"""The reference tokenizer, google-research/bert's own, as packaged in bert-tensorflow."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from components.transform.vocabulary import Vocabulary


class ReferenceTokenizer:
    """`FullTokenizer` on a vocabulary in memory."""

    def __init__(self, module: ModuleType, vocabulary: Vocabulary, *, lower_case: bool) -> None:
        # FullTokenizer takes a file; its load_vocab in bert-tensorflow renumbers after a repeated piece, which
        # google-research/bert does not.
        ids = {token: index for index, token in enumerate(vocabulary.tokens)}
        self._ids = ids
        self._basic = module.BasicTokenizer(do_lower_case=lower_case, vocab=ids)
        self._word_pieces = module.WordpieceTokenizer(vocab=ids)

    def words(self, text: str) -> list[str]:
        return self._basic.tokenize(text)

    def ids(self, text: str) -> list[int]:
        return [self._ids[piece] for word in self.words(text) for piece in self._word_pieces.tokenize(word)]


MakeReference = Callable[..., ReferenceTokenizer]


@pytest.fixture(scope="session")
def make_reference() -> MakeReference:
    """Returns `ReferenceTokenizer` without its first argument."""
    package = importlib.util.find_spec("bert")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the reference tokenizer is not installed: bert-tensorflow==1.0.4")
    path = Path(next(iter(package.submodule_search_locations))) / "tokenization.py"
    specification = importlib.util.spec_from_file_location("bert_reference_tokenization", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    if not module.FLAGS.is_parsed():
        module.FLAGS.mark_as_parsed()
    return functools.partial(ReferenceTokenizer, module)
