"""Problems of a file, collected so that one error shows many of them."""

from __future__ import annotations

from components.annotated_text import AnnotationError

SHOWN_PROBLEMS = 20


class Problems:
    """Collects the problems of one file, and raises them together.

    Example:
        >>> problems = Problems("train.jsonl")
        >>> problems.add(3, "the object has no \\"text\\"; every line needs one")
        >>> problems.raise_if_any()
        Traceback (most recent call last):
        components.annotated_text.AnnotationError: train.jsonl:3: the object has no "text"; every line needs one
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown: list[str] = []
        self._advice: list[str] = []
        self._count = 0

    def add(self, line: int, text: str) -> None:
        """Notes a problem of the line `line` (counted from 1)."""
        self._count += 1
        if self._count <= SHOWN_PROBLEMS:
            self._shown.append(f"{self._name}:{line}: {text}")

    def advise(self, text: str) -> None:
        """Notes advice that concerns the whole file; it ends the message."""
        self._advice.append(f"{self._name}: {text}")

    def __len__(self) -> int:
        return self._count

    def raise_if_any(self) -> None:
        """Raises AnnotationError with the first problems and their number, if there are any."""
        if not self._count:
            return
        lines = list(self._shown)
        if self._count > 1:
            lines.insert(0, f"{self._name}: {self._count} problems")
        if self._count > len(self._shown):
            lines.append(f"... and {self._count - len(self._shown)} more")
        raise AnnotationError("\n".join(lines + self._advice))
