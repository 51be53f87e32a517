"""A table for the terminal in which no number and no id is ever cut."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.table import Column, Table
from rich.text import Text

from harness.runfolder import streams

TEXT = 16  # a longer text may be folded before a column is left out,
SHORT = 8  # and this one when no other column may
Padding = tuple[int, int, int, int]
WIDE, TIGHT = (0, 1, 0, 1), (0, 1, 0, 0)  # padding of a cell: top, right, bottom, left
UNLIMITED = 1_000_000  # columns


class FittedTable(Table):
    """A Rich table that has room in any terminal; add its columns with `add`.

    If the terminal is too narrow, texts are folded, then whole columns are left out. A line below
    the table names them unless `tells` is False. If even the columns that must stay do not fit, all
    are folded.
    """

    def __init__(self, title: str | None = None, *, tells: bool = True) -> None:
        super().__init__(title=title, title_justify="left", box=box.SIMPLE)
        self._tells = tells
        self._folds: list[bool] = []
        self._drops: list[int] = []

    def add(self, title: str, *, right: bool = False, folds: bool = False, drop: int = 0) -> None:
        """Add a column.

        right: align right. folds: the cells are texts, which may be folded; numbers among them are
        not. drop: the order in which columns are left out, 1 first; 0: never.
        """
        justify: JustifyMethod = "right" if right else "left"
        self.add_column(streams.printable(title), justify=justify, overflow="fold")
        self._folds.append(folds)
        self._drops.append(drop)

    def add_row(self, *cells: Any, **style: Any) -> None:
        """Add a row; of its texts, what the encoding lacks has its plain form."""
        super().add_row(*(_printable(cell) for cell in cells), **style)

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """The table as it fits into the console."""
        kept, widths, padding = self._fit(options.max_width)
        table = Table(
            title=_printable(self.title), title_justify="left", caption=_printable(self.caption),
            caption_justify="left", box=self.box, padding=padding,
        )  # fmt: skip
        for index, width in zip(kept, widths, strict=True):
            column = self.columns[index]
            table.add_column(
                column.header, justify=column.justify, overflow=column.overflow, width=width
            )
        cells = [
            [_folded(str(cell), width) for cell in self.columns[index].cells]
            for index, width in zip(kept, widths, strict=True)
        ]
        for number, row in enumerate(self.rows):
            table.add_row(*(column[number] for column in cells), style=row.style)
        yield table
        hidden = [str(c.header) for index, c in enumerate(self.columns) if index not in kept]
        if hidden and self._tells:
            yield Text(
                f"  left out at this width: {', '.join(hidden)}; a wider terminal or a pipe shows "
                "them\n"
            )

    def _fit(self, available: int) -> tuple[list[int], list[int | None], Padding]:
        """The columns to show, their widths (None if they do not fit), and the padding of cells."""
        every = range(len(self.columns))
        order = sorted((i for i in every if self._drops[i]), key=self._drops.__getitem__)
        wanted = [_width(c.header, *c.cells) for c in self.columns]
        steps = [(count, TEXT) for count in range(len(order) + 1)] + [(len(order), SHORT)]
        for (count, text), padding in itertools.product(steps, (WIDE, TIGHT)):
            kept = [index for index in every if index not in order[:count]]
            needed = [_needed(self.columns[i], text if self._folds[i] else None) for i in kept]
            spare = available - 1 - len(kept) * (1 + sum(padding)) - sum(needed)
            if spare >= 0:
                lacking = [wanted[i] - least for i, least in zip(kept, needed, strict=True)]
                shares = _shares(spare, lacking)
                return kept, [a + b for a, b in zip(needed, shares, strict=True)], padding
        return kept, [None] * len(kept), TIGHT


def _printable(cell: Any) -> Any:
    return streams.printable(cell) if isinstance(cell, str) else cell


def _width(*texts: RenderableType) -> int:
    return max((cell_len(line) for text in texts for line in str(text).split("\n")), default=0)


def _needed(column: Column, text: int | None) -> int:
    """The least width in which no number is folded. text: that of texts; None: not folded."""
    heading = _width(*str(column.header).split())
    if text is None:
        return max(heading, _width(*column.cells))
    numbers = (cell for cell in column.cells if _is_number(str(cell)))
    return max(min(text, heading), min(text, _width(*column.cells)), _width(*numbers))


def _folded(text: str, width: int | None) -> str:
    """The text with line breaks behind commas and spaces; Rich breaks what is still too long."""
    lines = [""]
    for piece in re.split(r"(?<=[, ])", text):
        if width is not None and lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip(" ") for line in lines)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shares(spare: int, lacking: Sequence[int]) -> list[int]:
    """Divide the spare width of the terminal, first among the columns that lack least."""
    shares = [0] * len(lacking)
    for index in sorted(range(len(lacking)), key=lacking.__getitem__):
        shares[index] = min(spare, lacking[index])
        spare -= shares[index]
    return shares


def show(*tables: Table) -> None:
    """Print the tables with rows; nothing is wrapped or left out when it is not a terminal."""
    console = streams.console()
    if not console.is_terminal:
        console = streams.console(width=UNLIMITED)
    for table in tables:
        if table.row_count:
            console.print(table)
