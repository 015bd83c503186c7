"""Where a page or CSV says something else than it should: cell by cell in its tables, else line by line."""

import csv
import difflib
import re
from collections.abc import Iterator

NAMES = ("ablation", "row", "seed", "claim")  # the columns that name a row, else the first does


def differences(name: str, there: str, right: str) -> list[str]:
    """What a file says, and what it should: "page says x, records say y" for each cell of a table's row.

    name: the file's, as its lines begin; a row is named by its heading and the cells of NAMES. Lines of no
    table, and such as have no counterpart, are named whole.
    """
    old, new = there.splitlines(), right.splitlines()
    parse = _csv_cells if name.endswith(".csv") else _markdown_cells
    theirs, ours = list(map(parse, old)), list(map(parse, new))
    off = []
    changes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for _, start, end, first, last in (change for change in changes if change[0] != "equal"):
        rows = list(zip(theirs[start:end], ours[first:last], strict=False))
        if end - start == last - first and all(a and len(a) == len(b) for a, b in rows):
            for i, (cells, _) in enumerate(rows, start=first):
                off += [f"{name}: {where}" for where in _cells(new, ours, i, cells)]
        else:
            off += [f"{name}: stands there: {line}" for line in old[start:end] if line.strip()]
            off += [f"{name}: should be: {line}" for line in new[first:last] if line.strip()]
    return off


def _cells(lines: list[str], tables: list[list[str]], index: int, there: list[str]) -> Iterator[str]:
    """The cells in which a row differs, each with its table's heading, row and column."""
    top = index
    while top > 0 and tables[top - 1]:
        top -= 1
    heading = next((line.lstrip("# ") + ", " for line in reversed(lines[:top]) if line.startswith("#")), "")
    head, right = tables[top], tables[index]
    row = [cell for column, cell in zip(head, right, strict=False) if column in NAMES] or right[:1]
    for column, a, b in zip(head, there, right, strict=False):
        if a != b:
            where = f"{heading}row {', '.join(row)!r}, {column!r}"
            yield f"{where}: page says {a or 'nothing'}, records say {b or 'nothing'}"


def _csv_cells(line: str) -> list[str]:
    return next(csv.reader([line]), [])


def _markdown_cells(line: str) -> list[str]:
    """The cells of a table's line; none of any other."""
    if not line.startswith("|"):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
