"""A syntax check of the conditions in a compiled pipeline, which the backend stores unread and fails on at run time.

Conditions are written in the Common Expression Language over the task's ExecutorInput. TFX emits a small part of it:
field access, indexing, calls, arithmetic, comparison and logic. That part is parsed here; its evaluation is left to
the backend.
"""

from __future__ import annotations

import dataclasses
import re

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?u?)|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<operator>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]]))"
)
# Binding strength of the binary operators; a higher one binds tighter.
_BINARY = {
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "in": 3, "+": 4, "-": 4, "*": 5, "/": 5,
    "%": 5,
}  # fmt: skip
_ROOTS = ("inputs", "outputs", "true", "false", "null", "int", "double", "string", "bool", "size", "type")


class CelError(ValueError):
    """Raised where an expression is not well-formed, with the position."""


@dataclasses.dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def input_names(expression: str) -> set[str]:
    """Parses `expression` and returns the input artifacts and parameters that it names.

    Raises:
        CelError: when the expression is not well-formed, or starts from a name that the backend does not offer.

    Example:
        >>> input_names("inputs.artifacts['blessing'].artifacts[0].metadata['blessed'] == 1.0")
        {'blessing'}
    """
    parser = _Parser(_tokens(expression), expression)
    parser.expression()
    parser.expect_end()
    return parser.inputs


def _tokens(expression: str) -> list[_Token]:
    tokens, position = [], 0
    text = expression.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match or match.lastgroup is None:
            raise CelError(f"unexpected {text[position]!r} at position {position} of {expression!r}")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


class _Parser:
    def __init__(self, tokens: list[_Token], expression: str) -> None:
        self._tokens, self._text, self._index = tokens, expression, 0
        self.inputs: set[str] = set()

    def expression(self) -> None:
        self._binary(0)
        if self._accept("?"):
            self.expression()
            self._expect(":")
            self.expression()

    def expect_end(self) -> None:
        if self._current.kind != "end":
            self._fail("the end of the expression")

    @property
    def _current(self) -> _Token:
        return self._tokens[self._index]

    def _binary(self, strength: int) -> None:
        self._unary()
        while _BINARY.get(self._current.text, 0) > strength and self._current.kind in ("operator", "name"):
            operator = self._current.text
            self._index += 1
            self._binary(_BINARY[operator])

    def _unary(self) -> None:
        while self._current.text in ("!", "-") and self._current.kind == "operator":
            self._index += 1
        self._member()

    def _member(self) -> None:
        start = self._index
        token = self._current
        self._index += 1
        if token.kind == "operator" and token.text == "(":
            self.expression()
            self._expect(")")
        elif token.kind == "name":
            if token.text not in _ROOTS:
                raise CelError(
                    f"unknown name {token.text!r} at position {token.position} of {self._text!r}; "
                    "a condition starts from inputs"
                )
        elif token.kind not in ("number", "string"):
            self._index = start
            self._fail("a value")
        while self._current.kind == "operator" and self._current.text in (".", "[", "("):
            self._postfix()
        self._note_input(self._tokens[start : self._index])

    def _postfix(self) -> None:
        opening = self._current.text
        self._index += 1
        if opening == ".":
            if self._current.kind != "name":
                self._fail("a field name")
            self._index += 1
        elif opening == "[":
            self.expression()
            self._expect("]")
        else:
            while not self._accept(")"):
                self.expression()
                if self._current.text != ")":
                    self._expect(",")

    def _note_input(self, tokens: list[_Token]) -> None:
        texts = [token.text for token in tokens]
        if len(texts) > 5 and texts[0] == "inputs" and tokens[4].kind == "string":
            if texts[2] not in ("artifacts", "parameter_values", "parameters"):
                raise CelError(f"inputs has no field {texts[2]!r} in {self._text!r}")
            self.inputs.add(texts[4][1:-1])

    def _accept(self, text: str) -> bool:
        if self._current.kind == "operator" and self._current.text == text:
            self._index += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            self._fail(repr(text))

    def _fail(self, expected: str) -> None:
        token = self._current
        found = repr(token.text) if token.text else "the end"
        raise CelError(f"expected {expected} at position {token.position} of {self._text!r}; found {found}")
