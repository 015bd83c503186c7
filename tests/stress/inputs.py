"""Inputs that are right, spoiled at random from a seed, and read:
the answer is a value or one line of ours.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "data")]
from made import Made, encoded, write_tar
from made_up import values_of

from focalrepro.data import DatasetError, DetectionData
from focalrepro.evaluation.record import RunFileError, content_digest, read_record
from focalrepro.rare.data import read_csv

LONGEST = 60  # seconds that one input may take
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
NUMBERS = [
    b"-1",
    b"0",
    b"1e400",
    b"1" + b"0" * 400,
    b"NaN",
    b"9223372036854775808",
    b"-0.0",
    b"1e-320",
    b"3.5",
]
VALUES = [
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    float("nan"),
    2**63,
    "",
    ".",
    "../x",
    "\ud800",
    "x" * 5000,
    [],
    {},
]


def spoiled(rng: random.Random, data: bytes) -> bytes:
    """Bytes with one to four changes: bits, cuts, repeats, noise, numbers."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        size = min(len(data) - at, int(2 ** rng.uniform(0, 9)))
        how = rng.randrange(7)
        if how == 0 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        elif how == 1:
            data = data[:at]
        elif how == 2:
            data = data[:at] + data[at + size :]
        elif how == 3:
            data = data[:at] + data[at : at + size] * rng.randint(2, 50) + data[at + size :]
        elif how == 4:
            data = data[:at] + rng.randbytes(size or 1) + data[at + size :]
        elif how == 5:
            data = data[:at] + bytes([rng.choice([0, 255, 32])]) * size + data[at + size :]
        elif found := list(NUMBER.finditer(data)):
            number = rng.choice(found)
            data = data[: number.start()] + rng.choice(NUMBERS) + data[number.end() :]
    return data


def spoiled_json(rng: random.Random, value: Any) -> bytes:
    """A JSON with one to three values replaced, removed or put elsewhere; or with its bytes spoiled."""
    value = json.loads(json.dumps(value))
    if rng.random() < 0.4:
        return spoiled(rng, json.dumps(value).encode())
    for _ in range(rng.randint(1, 3)):
        places = list(_places(value))
        if not places:
            break
        holder, key = rng.choice(places)
        how = rng.randrange(4)
        if how == 0:
            del holder[key]
        elif how == 1:
            other, name = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[name])) if _has(other, name) else None
        elif how == 2 and isinstance(holder[key], float | int) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * rng.choice([-1, 0, 0.5, 1.01, 1e9])
        else:
            holder[key] = rng.choice(VALUES)
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in list(entries):
        yield value, key
        yield from _places(inner)


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


# ---- one input of each kind: made in a new folder, and read; False where it was refused in one line


def coco(rng: random.Random, folder: Path) -> bool:
    made = Made(folder)
    made.load()  # the pixels are decoded, as a user's are
    return _loaded(made, lambda: made.load(text=_text(spoiled_json(rng, made.value))))


def image(rng: random.Random, folder: Path) -> bool:
    made = Made(folder)
    victim = rng.choice(sorted(made.images.iterdir()))
    whole = encoded(kind=rng.choice(["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"]))  # whatever its name says
    victim.write_bytes(spoiled(rng, whole))
    return _loaded(made, made.load)


def tar(rng: random.Random, folder: Path) -> bool:
    made = Made(folder)
    path = write_tar(folder / "images.tar", {p.name: p.read_bytes() for p in sorted(made.images.iterdir())})
    path.write_bytes(spoiled(rng, path.read_bytes()))
    return _loaded(made, lambda: made.load(images=[path]))


def record(rng: random.Random, folder: Path) -> bool:
    values = values_of(per_class={"a": 20.0, "b": 40.0}, history={"loss": [1.0, None]})
    path = folder / f"{values['run_id']}.json"
    data, sealed = spoiled_json(rng, values), False
    if rng.random() < 0.5:
        with suppress(ValueError, TypeError):
            changed = json.loads(data)
            data, sealed = json.dumps(changed | {"digest": content_digest(changed)}).encode(), True
    path.write_bytes(data)
    try:
        found = read_record(path)
    except RunFileError as error:
        return _refused(error, path)
    if not sealed and content_digest(found.as_json()) != values["digest"]:
        raise AssertionError("a changed record was taken for a run's")
    return True


def csv(rng: random.Random, folder: Path) -> bool:
    rows = "".join(f"{i * 0.5},{'abc'[i % 3]},{i % 7},{i % 2}\n" for i in range(60))
    path = folder / "table.csv"
    path.write_bytes(spoiled(rng, f"amount,country,day,y\n{rows}".encode()))
    try:
        found = read_csv(path, "y")
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        return _refused(error, path)
    if not (len(found.x) == len(found.y) and set(found.y) == {0, 1} and not np.isinf(found.x).any()):
        raise AssertionError("what was read is no table")
    return True


KINDS: dict[str, Callable[[random.Random, Path], bool]] = {
    "COCO JSON": coco,
    "record": record,
    "CSV": csv,
    "image": image,
    "tar": tar,
}


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _loaded(made: Made, load: Callable[[], DetectionData]) -> bool:
    try:
        data = load()
    except DatasetError as error:
        return _refused(error, made.folder)
    if not (
        len(data)
        and np.isfinite(data.boxes).all()
        and data.boxes.min() >= 0
        and data.boxes.max() <= data.frame
    ):
        raise AssertionError("what was read is no dataset")
    return True


def _refused(error: Exception, path: Path) -> bool:
    if "\n" in str(error) or str(path) not in str(error):
        raise AssertionError(f"not one line with the file: {error!s:.200}")
    return False


class Hangs(BaseException):
    """An input takes longer than LONGEST."""


def _alarm(*_: object) -> None:
    raise Hangs


def read_all(kind: str, count: int, seed: int, folder: Path, end: float) -> dict[str, Any]:
    """How `count` spoiled inputs of a kind were answered: {"tried", "read", "refused", "lost": [reasons]}.

    They are read in a process of their own; where that dies, its input is lost and the next process goes on.
    Fewer where time.monotonic() passes `end`.
    """
    found: dict[str, Any] = {"tried": 0, "read": 0, "refused": 0, "lost": []}
    while found["tried"] < count:
        here, there = os.pipe()
        pid = os.fork()
        if not pid:
            _answer(kind, range(found["tried"], count), seed, folder, end, there)
        os.close(there)
        with os.fdopen(here, encoding="utf-8") as answers:
            for line in answers:
                answer = json.loads(line)
                found["tried"] += 1
                if answer in ("read", "refused"):
                    found[answer] += 1
                else:
                    found["lost"].append(answer)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            break
        found["lost"].append(f"input {found['tried']}: the process died ({status})")
        found["tried"] += 1
    return found


def _answer(kind: str, indices: range, seed: int, folder: Path, end: float, pipe: int) -> None:
    """In a process of its own: writes one JSON line for each input, and ends it."""

    signal.signal(signal.SIGALRM, _alarm)
    try:
        for index in indices:
            if time.monotonic() > end:
                break
            one = folder / f"{index}"
            one.mkdir(parents=True)
            signal.alarm(LONGEST)
            try:
                answer = "read" if KINDS[kind](random.Random(f"{seed} {kind} {index}"), one) else "refused"
            except (Exception, Hangs) as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(last.filename).name}:{last.lineno}"
                answer = f"input {index}: {type(error).__name__} at {where}: {error!s:.200}"
            signal.alarm(0)
            os.write(pipe, (json.dumps(answer) + "\n").encode())
            shutil.rmtree(one, ignore_errors=True)
        os._exit(0)
    finally:
        os._exit(70)
