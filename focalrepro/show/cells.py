"""Where a page or CSV says something else than it should: cell by cell in its tables, else line by line."""

import csv
import difflib
import re
from collections.abc import Callable, Iterator

Cells = Callable[[str], list[str]]
NAMES = ("ablation", "row", "seed")  # the columns of results.csv that name a row of it


def differences(name: str, there: str, right: str) -> list[str]:
    """What a file says, and what it should: "page says x, records say y" for each cell of a table's row.

    name: the file's, as its lines begin; a row is named by its heading and first cell, or in a CSV by its
    first cells. Lines of no table, and such as have no counterpart, are named whole.
    """
    old, new = there.splitlines(), right.splitlines()
    split = _csv_cells if name.endswith(".csv") else _markdown_cells
    off = []
    changes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for kind, start, end, first, last in changes:
        if kind == "equal":
            continue
        pairs = list(zip(range(start, end), range(first, last), strict=False))
        cells = [(i, split(old[o]), split(new[i])) for o, i in pairs]
        if end - start == last - first and all(a and len(a) == len(b) for _, a, b in cells):
            for i, a, b in cells:
                off += [f"{name}: {where}" for where in _cells(new, i, a, b, split)]
        else:
            off += [f"{name}: stands there: {line}" for line in old[start:end] if line.strip()]
            off += [f"{name}: should be: {line}" for line in new[first:last] if line.strip()]
    return off


def _cells(lines: list[str], index: int, there: list[str], right: list[str], split: Cells) -> Iterator[str]:
    """The cells in which a row differs, each with its table, row and column."""
    if split is _csv_cells:
        table, head = "", split(lines[0])
        row = ", ".join(cell for name, cell in zip(head, right, strict=False) if name in NAMES)
    else:
        top = index
        while top > 0 and split(lines[top - 1]):
            top -= 1
        heading = next((line.lstrip("# ") for line in reversed(lines[:top]) if line.startswith("#")), "")
        table, head = f"{heading}, ", split(lines[top])
        row = right[head.index("claim") if "claim" in head else 0]
    for column, a, b in zip(head, there, right, strict=False):
        if a != b:
            yield f"{table}row {row!r}, {column!r}: page says {a or 'nothing'}, records say {b or 'nothing'}"


def _csv_cells(line: str) -> list[str]:
    return next(csv.reader([line]), [])


def _markdown_cells(line: str) -> list[str]:
    """The cells of a table's line; none of any other."""
    if not line.startswith("|"):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
