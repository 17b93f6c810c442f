"""The layer weights of a text as a PNG picture, drawn with matplotlib."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.explanation_page import columns, largest_weight, lines

if TYPE_CHECKING:
    from serving.explanation import Explanation

_BASE_FONT = "DejaVu Sans"  # comes with matplotlib
_INCH_PER_TOKEN = 0.55
_INCH_PER_LAYER = 0.22


class MissingGlyphsError(RuntimeError):
    """Raised when no installed font draws some characters of the text."""


def write_picture(explanation: Explanation, path: str | os.PathLike[str]) -> None:
    """Draws the heat map of a text, line by line, layers from the bottom up, tags beneath.

    Raises:
        MissingGlyphsError: no installed font has glyphs for some of the characters; nothing is written.
    """
    from matplotlib.figure import Figure

    fonts = fonts_for("".join([*(token.text for token in explanation.tokens), *explanation.tags]))
    rows = list(lines(explanation))
    longest = max(map(len, rows))
    widest = max(columns(token.text) for token in explanation.tokens)
    token_width = max(_INCH_PER_TOKEN, 0.11 * widest)
    height = len(rows) * (explanation.layer_count * _INCH_PER_LAYER + 1.0)
    figure = Figure(figsize=(max(longest * token_width, 3.0) + 2.2, height + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for line, axis in zip(rows, axes, strict=True):
        weights = [[token.layer_weights[layer] for token in line] for layer in range(explanation.layer_count)]
        image = axis.imshow(
            weights, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=largest_weight(explanation)
        )
        axis.set_xlim(-0.5, longest - 0.5)
        axis.set_yticks(range(explanation.layer_count), [f"layer {n + 1}" for n in range(explanation.layer_count)])
        tags = [_plain("{}\n{:.2f}".format(*explanation.best_tag(token))) for token in line]
        axis.set_xticks(range(len(line)), tags, fontsize=7, family=fonts)
        for place, token in enumerate(line):
            axis.annotate(
                _plain(token.text),
                (place, explanation.layer_count - 0.4),
                ha="center",
                va="bottom",
                fontsize=12,
                family=fonts,
                annotation_clip=False,
            )
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=list(axes), label="share of the layer", fraction=0.04)
    figure.savefig(os.fspath(path), dpi=150, format="png")


def fonts_for(characters: Iterable[str]) -> list[str]:
    """Returns the families of installed fonts that together draw all characters, in the order in which to ask them.

    Raises:
        MissingGlyphsError: some characters are in no font.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    missing = {ord(character) for character in characters if not character.isspace()}
    base = font_manager.findfont(_BASE_FONT)
    families = [_BASE_FONT]
    missing -= FT2Font(base).get_charmap().keys()
    # Upright sans-serif faces first: they are what the rest of the picture looks like.
    paths = sorted(font_manager.findSystemFonts(), key=lambda path: (_rank(Path(path).name), path))
    for path in paths:
        if not missing:
            break
        try:
            font = FT2Font(path)
            found = missing & font.get_charmap().keys()
            if found:
                font_manager.fontManager.addfont(path)
                families.append(font_manager.ttfFontProperty(font).name)
                missing -= found
        except (RuntimeError, OSError):
            continue  # a format that matplotlib cannot draw, such as colour bitmaps
    if missing:
        shown = "".join(map(chr, sorted(missing)[:20]))
        raise MissingGlyphsError(f"no installed font has glyphs for {shown}")
    return families


def _plain(text: str) -> str:
    """Returns a text as matplotlib draws it literally: two dollar signs would enclose a formula."""
    return text.replace("$", r"\$")


def _rank(name: str) -> int:
    lowered = name.lower()
    return ("sans" not in lowered) + 2 * ("regular" not in lowered) + 4 * ("mono" in lowered)
