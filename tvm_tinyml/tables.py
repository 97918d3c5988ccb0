"""Tables in plain text and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

Cell = str | int | float | None


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return rows under a header, columns aligned: text to the left, numbers to the right with thousands separated.

    >>> print(table(("layer", "macs"), [("conv2d_0", 320000), ("softmax_0", None)]))
    layer         macs
    conv2d_0   320,000
    softmax_0        -
    """
    texts = [[text(cell) for cell in row] for row in rows]
    widths = [max(len(column[i]) for column in (header, *texts)) for i in range(len(header))]
    numeric = _numeric(header, rows)

    def line(cells: Sequence[str]) -> str:
        aligned = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(cells, widths, numeric, strict=True)]
        return "  ".join(aligned).rstrip()

    return "\n".join(line(row) for row in (list(header), *texts))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return the same in Markdown, as GitHub reads it.

    >>> print(markdown_table(("layer", "macs"), [("conv2d_0", 320000), ("softmax_0", None)]))
    | layer | macs |
    |---|---:|
    | conv2d_0 | 320,000 |
    | softmax_0 | - |
    """
    texts = [[text(cell).replace("|", r"\|") for cell in row] for row in rows]
    alignment = "".join("---:|" if right else "---|" for right in _numeric(header, rows))
    head, *body = [f"| {' | '.join(cells)} |" for cells in (list(header), *texts)]
    return "\n".join((head, f"|{alignment}", *body))


def text(cell: Cell) -> str:
    """Return how a table shows a cell."""
    match cell:
        case None:
            return "-"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:,.2f}"
        case _:
            return cell


def _numeric(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """Return which columns hold numbers."""
    return [any(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
