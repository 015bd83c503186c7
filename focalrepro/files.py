"""Writing files so that a crash at any moment leaves the old one or the new one, never half of one."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes to a file beside it, flushes it to the disk and renames it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """A JSON object with one line per key, atomically; NaN is refused, since JSON has none."""
    lines = [
        f"{json.dumps(k)}: {json.dumps(v, allow_nan=False, ensure_ascii=False)}" for k, v in value.items()
    ]
    write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")
