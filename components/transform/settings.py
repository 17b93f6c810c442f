"""Settings of the Transform step."""

from __future__ import annotations

import dataclasses

from components.settings import check


@dataclasses.dataclass(frozen=True)
class TransformSettings:
    """How texts become word pieces.

    Args:
        vocabulary: path of a `vocab.txt`; None learns one from the train split.
        lower_case: whether the vocabulary is uncased: words are lower-cased and stripped of accents. A pretrained
            encoder brings its own: what its `tokenizer_config.json` or `tokenizer.json` declares, else false if at
            least 1 % of the pieces in its vocabulary, special ones left out, have one of the letters A to Z. Setting
            it passes over these files, also where they declare a tokenizer that gives other ids.
        vocabulary_size: the most word pieces a learned vocabulary has.
        minimum_count: a learned vocabulary leaves out characters and pieces that occur less often in the train split.
        vocabulary_digest: SHA-256 of the vocabulary file, which `create_transform` fills in: it makes the step run
            again when the file changes, and refuses a file that changed since.
        statistics: whether to write statistics of the examples before and after the transformation.
    """

    vocabulary: str | None = None
    lower_case: bool = True
    vocabulary_size: int = 8000
    minimum_count: int = 2
    vocabulary_digest: str | None = None
    statistics: bool = False

    def __post_init__(self) -> None:
        check(self.vocabulary != "", "vocabulary", "the path of a vocab.txt, or none to learn one", self.vocabulary)
        check(self.vocabulary_size >= 100, "vocabulary_size", "at least 100", self.vocabulary_size)
        check(self.minimum_count >= 1, "minimum_count", "at least 1", self.minimum_count)
