"""All images of a sweep as one, labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..document.workflow import Place
from .axes import Axis, VariantList
from .variant import VariantResult, label

__all__ = ["draw_grid"]

PAPER, INK, FAINT, ALARM = "#ffffff", "#1d1d1f", "#8a8a8e", "#b3261e"
GAP = 6
SIZE = 15
LINE = 20
SIDE = 180
"""Width of the column of row labels."""


def draw_grid(
    results: Sequence[VariantResult],
    variants: VariantList,
    *,
    rows: Place | None,
    cols: Place | None,
    cell: int,
    title: str | None = None,
) -> Image.Image:
    """A row for each value of `rows`, a column for each of `cols`; what else varies lies side by side in a cell."""
    axes = variants.axes
    if rows is None and cols is None:
        longest: list[int | None] = [*sorted(range(len(axes)), key=lambda i: -len(axes[i])), None]
        across, down = longest[:2]
    else:
        across, down = _axis_of(axes, cols), _axis_of(axes, rows)
    names = variants.names
    col_labels = _labels(axes, across, names)
    row_labels = _labels(axes, down, names)
    cells: dict[tuple[int, int], list[VariantResult]] = {}
    for item in results:
        at = variants.coordinates(item.index)
        key = (0 if down is None else at[down], 0 if across is None else at[across])
        cells.setdefault(key, []).append(item)
    inside = [i for i in range(len(axes)) if i not in (across, down) and len(axes[i]) > 1]
    note = " × ".join(", ".join(_labels(axes, i, names)) for i in inside)
    sheet = _Sheet(row_labels, col_labels, cells, cell, f"in each cell {note}" if note else "")
    return sheet.titled(sheet.draw(), title) if title else sheet.draw()


def _axis_of(axes: Sequence[Axis], place: Place | None) -> int | None:
    if place is None:
        return None
    for i, axis in enumerate(axes):
        if place in axis.places:
            return i
    known = ", ".join(str(place) for axis in axes for place in axis.places)
    raise ValueError(f"{place} does not vary in this sweep; what varies: {known}")


def _labels(axes: Sequence[Axis], which: int | None, names: dict[Place, str]) -> list[str]:
    if which is None:
        return [""]
    axis = axes[which]
    return [
        ", ".join(f"{names[place]}: {label(value)}" for place, value in zip(axis.places, row, strict=True))
        for row in axis.rows
    ]


class _Sheet:
    def __init__(
        self, rows: list[str], cols: list[str], cells: dict[tuple[int, int], list[VariantResult]], side: int, note: str
    ) -> None:
        self._rows, self._cols, self._cells, self._side, self._note = rows, cols, cells, side, note
        self._font = ImageFont.load_default(SIZE)
        tiles = max(max(1, sum(len(item.images) or 1 for item in items)) for items in cells.values())
        self._across = math.ceil(math.sqrt(tiles))
        self._down = math.ceil(tiles / self._across)
        self._width, self._height = self._tile_size()

    def _tile_size(self) -> tuple[int, int]:
        """Of the largest image, within the side that is asked for."""
        width = height = 0
        for item in (item for items in self._cells.values() for item in items):
            for saved in item.images:
                with Image.open(saved.path) as image:
                    scale = self._side / max(image.size)
                    width = max(width, round(image.width * scale))
                    height = max(height, round(image.height * scale))
        return (width or self._side, height or self._side)

    def draw(self) -> Image.Image:
        cell_width = self._across * (self._width + GAP) + GAP
        cell_height = self._down * (self._height + GAP) + GAP
        left = SIDE if any(self._rows) else GAP
        wrapped = [self._wrap(text, cell_width - 2 * GAP, 4) for text in self._cols]
        top = GAP + LINE * max(len(lines) for lines in wrapped) if any(self._cols) else GAP
        width, height = left + cell_width * len(self._cols), top + cell_height * len(self._rows)
        note = self._wrap(self._note, width - 2 * GAP, 2) if self._note else []
        sheet = Image.new("RGB", (width, height + LINE * len(note)), PAPER)
        pen = ImageDraw.Draw(sheet)
        self._write(pen, note, GAP, height, FAINT)
        for j, lines in enumerate(wrapped):
            self._write(pen, lines, left + j * cell_width + 2 * GAP, GAP, INK)
        for i, text in enumerate(self._rows):
            y = top + i * cell_height
            self._write(pen, self._wrap(text, SIDE - 2 * GAP, max(1, cell_height // LINE - 1)), GAP, y + GAP, INK)
            if i:
                pen.line([(0, y), (sheet.width, y)], fill="#e5e5ea")
            for j in range(len(self._cols)):
                self._draw_cell(sheet, pen, self._cells.get((i, j), []), left + j * cell_width, y)
        return sheet

    def titled(self, sheet: Image.Image, title: str) -> Image.Image:
        """The sheet under a title."""
        lines = self._wrap(title, sheet.width - 2 * GAP, 4)
        whole = Image.new("RGB", (sheet.width, sheet.height + LINE * len(lines) + GAP), PAPER)
        self._write(ImageDraw.Draw(whole), lines, GAP, GAP, INK)
        whole.paste(sheet, (0, LINE * len(lines) + GAP))
        return whole

    def _draw_cell(self, sheet: Image.Image, pen: Any, items: list[VariantResult], x: int, y: int) -> None:
        tiles: list[Any] = []
        for item in items:
            tiles.extend(item.images or [item])
        for n, tile in enumerate(tiles):
            at = (
                x + GAP + (n % self._across) * (self._width + GAP),
                y + GAP + (n // self._across) * (self._height + GAP),
            )
            if isinstance(tile, VariantResult):
                self._draw_failure(pen, tile, at)
                continue
            with Image.open(tile.path) as opened:
                image = ImageOps.contain(opened.convert("RGB"), (self._width, self._height))
            sheet.paste(image, at)

    def _draw_failure(self, pen: Any, item: VariantResult, at: tuple[int, int]) -> None:
        x, y = at
        pen.rectangle([x, y, x + self._width - 1, y + self._height - 1], outline=ALARM if item.failed else FAINT)
        text = item.problems[0].message if item.failed else "no image"
        lines = self._wrap(text, self._width - 2 * GAP, max(1, self._height // LINE - 1))
        self._write(pen, lines, x + GAP, y + GAP, ALARM if item.failed else FAINT)

    def _write(self, pen: Any, lines: list[str], x: int, y: int, colour: str) -> None:
        for n, line in enumerate(lines):
            pen.text((x, y + n * LINE), line, fill=colour, font=self._font)

    def _wrap(self, text: str, width: int, most: int) -> list[str]:
        """Lines that fit into a width; words that do not are broken, and what is too much ends in an ellipsis."""
        lines = [""]
        for word in text.split():
            while word:
                joined = f"{lines[-1]} {word}".strip()
                if self._font.getlength(joined) <= width:
                    lines[-1], word = joined, ""
                elif lines[-1]:
                    lines.append("")
                else:
                    cut = next((n for n in range(len(word), 1, -1) if self._font.getlength(word[:n]) <= width), 1)
                    lines[-1], word = word[:cut], word[cut:]
                    if word:
                        lines.append("")
        if len(lines) > most:
            lines = lines[:most]
            while lines[-1] and self._font.getlength(lines[-1] + "…") > width:
                lines[-1] = lines[-1][:-1]
            lines[-1] += "…"
        return lines
