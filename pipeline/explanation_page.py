"""The layer weights of a text as one self-contained HTML page: a heat map that runs with the text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from html import escape

from serving.explanation import ExplainedToken, Explanation

# Width of a line of the heat map, in columns of a terminal: a Chinese character takes two.
LINE_WIDTH = 72
_NARROWEST = 4  # columns for a token, so that its tag has room beneath it

# From nothing to the largest weight of the text.
_COLOURS = ((247, 251, 255), (107, 174, 214), (8, 48, 107))

_STYLE = """
body { font: 16px/1.5 "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; margin-bottom: 1.5em; }
th { font-weight: normal; padding: 0 3px; }
th[scope=row] { font-size: 12px; color: #666; text-align: right; padding-right: 8px; white-space: nowrap; }
th[scope=col] { font-size: 18px; white-space: pre; }
td { min-width: 2.4em; height: 1.3em; border: 1px solid #fff; }
td.tag { font-size: 11px; text-align: center; color: #666; border: 0; white-space: nowrap; }
td.entity { color: #a40000; font-weight: bold; }
.legend { display: inline-block; width: 12em; height: 1em; vertical-align: middle; }
"""


def explanation_page(explanation: Explanation) -> str:
    """Returns the page: for each token, the weight of every layer as a colour, and its most probable tag.

    The page refers to nothing outside itself. Numbers stand in the titles of the cells.
    """
    largest = largest_weight(explanation)
    tables = "\n".join(_table(explanation, line, largest) for line in lines(explanation))
    stops = ", ".join(f"rgb{colour}" for colour in _COLOURS)
    return (
        '<!DOCTYPE html>\n<html lang="zh">\n<head>\n<meta charset="utf-8">\n<title>Layer weights</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Layer weights</h1>\n"
        f"<p>{escape(explanation.text)}</p>\n"
        f"<p>The share of each encoder layer in what the classifier reads, token by token: 0 "
        f'<span class="legend" style="background: linear-gradient(to right, {stops})"></span> {largest:.3f}; '
        f"equal shares would be {1 / explanation.layer_count:.3f}. "
        "Beneath each token its most probable tag by itself, and the probability of that tag.</p>\n"
        f"{tables}\n</body>\n</html>\n"
    )


def largest_weight(explanation: Explanation) -> float:
    """Returns the largest weight in a text, where the colours end."""
    return max(max(token.layer_weights) for token in explanation.tokens)


def lines(explanation: Explanation) -> Iterator[tuple[ExplainedToken, ...]]:
    """Cuts the tokens of a text into lines of at most `LINE_WIDTH` columns, at least one token each."""
    line: list[ExplainedToken] = []
    used = 0
    for token in explanation.tokens:
        width = max(columns(token.text), _NARROWEST)
        if line and used + width > LINE_WIDTH:
            yield tuple(line)
            line, used = [], 0
        line.append(token)
        used += width
    yield tuple(line)


def columns(text: str) -> int:
    """Returns how many columns a text takes in a terminal."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def colour(share: float) -> str:
    """Returns the colour of a weight, given as its share of the largest, as CSS.

    Example:
        >>> colour(0.5)
        'rgb(107, 174, 214)'
    """
    place = min(max(share, 0.0), 1.0) * (len(_COLOURS) - 1)
    first = min(int(place), len(_COLOURS) - 2)
    mixed = (
        round(low + (high - low) * (place - first))
        for low, high in zip(_COLOURS[first], _COLOURS[first + 1], strict=True)
    )
    return f"rgb({', '.join(map(str, mixed))})"


def _table(explanation: Explanation, line: tuple[ExplainedToken, ...], largest: float) -> str:
    rows = ["".join(f'<th scope="col">{escape(token.text)}</th>' for token in line)]
    header = '<tr><th scope="row"></th>' + rows[0] + "</tr>"
    body = []
    for layer in reversed(range(explanation.layer_count)):
        cells = "".join(
            f'<td style="background: {colour(token.layer_weights[layer] / largest)}" '
            f'title="{escape(token.text)}, layer {layer + 1}: {token.layer_weights[layer]:.4f}"></td>'
            for token in line
        )
        body.append(f'<tr><th scope="row">layer {layer + 1}</th>{cells}</tr>')
    tags = []
    for token in line:
        tag, probability = explanation.best_tag(token)
        kind = "tag" if tag == "O" else "tag entity"
        tags.append(f'<td class="{kind}">{escape(tag)}<br>{probability:.2f}</td>')
    footer = '<tr><th scope="row">tag</th>' + "".join(tags) + "</tr>"
    return "<table>\n" + "\n".join([header, *body, footer]) + "\n</table>"
