"""The word-piece vocabulary: `vocab.txt` of BERT, one piece a line, its line number (from 0) being its id.

Light: imports TensorFlow only to read a path.
"""

from __future__ import annotations

import dataclasses
import functools
import os

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
REQUIRED_TOKENS = (PAD, UNK, CLS, SEP)


class VocabularyError(ValueError):
    """Raised when a vocabulary cannot be read or lacks a token; the message names the file and the fault."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The word pieces in id order.

    A piece that stands on several lines has the id of the last one, as in google-research/bert.

    Args:
        tokens: the pieces; a continuation piece starts with `##`.

    Raises:
        VocabularyError: there are no tokens, or [PAD], [UNK], [CLS] or [SEP] is missing.

    Example:
        >>> Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "中")).id_of("中")
        4
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if not any(self.tokens):
            raise VocabularyError("the vocabulary is empty; expected one word piece a line")
        missing = [token for token in REQUIRED_TOKENS if token not in self._ids]
        if missing:
            raise VocabularyError(
                f"the vocabulary of {len(self.tokens)} tokens lacks {', '.join(missing)}; "
                f"it needs {', '.join(REQUIRED_TOKENS)}, each on a line of its own"
            )

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Reads a vocabulary as google-research/bert does: lines end at "\\n" only, and are stripped of whitespace.

        A byte-order mark and blank lines at the end are ignored; neither changes an id.

        Args:
            path: a local path or any that `tf.io.gfile` reads, such as `gs://...`.

        Raises:
            VocabularyError: the file cannot be read, is not UTF-8 (the line is named), is empty, or lacks a token.
        """
        import tensorflow as tf

        try:
            with tf.io.gfile.GFile(os.fspath(path), "rb") as file:
                content = file.read()
        except (tf.errors.OpError, OSError) as error:
            reason = getattr(error, "message", None) or error
            raise VocabularyError(f"{path}: cannot read the vocabulary: {reason}") from error
        return cls.from_bytes(content, source=str(path))

    @classmethod
    def from_bytes(cls, content: bytes, *, source: str) -> Vocabulary:
        """Parses the content of a `vocab.txt`; see `from_file`. `source` names it in messages."""
        try:
            text = content.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise VocabularyError(
                f"{source}:{line}: not UTF-8 (byte 0x{content[error.start]:02x}); expected a vocabulary in UTF-8"
            ) from error
        tokens = [line.strip() for line in text.split("\n")]
        while tokens and not tokens[-1]:
            tokens.pop()
        try:
            return cls(tuple(tokens))
        except VocabularyError as error:
            raise VocabularyError(f"{source}: {error}") from None

    def to_bytes(self) -> bytes:
        """Returns the vocabulary as the content of a `vocab.txt` in UTF-8, which `from_bytes` reads back."""
        return "".join(f"{token}\n" for token in self.tokens).encode()

    def __len__(self) -> int:
        return len(self.tokens)

    def id_of(self, token: str) -> int:
        """Returns the id of `token`, or that of [UNK] if it is not in the vocabulary."""
        return self._ids.get(token, self._ids[UNK])

    @property
    def pad_id(self) -> int:
        return self._ids[PAD]

    @property
    def unk_id(self) -> int:
        return self._ids[UNK]

    @property
    def cls_id(self) -> int:
        return self._ids[CLS]

    @property
    def sep_id(self) -> int:
        return self._ids[SEP]

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}
