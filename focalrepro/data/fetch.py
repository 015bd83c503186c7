"""Fetching over the network: bounded in bytes and time, tried again where that can help, checked."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import requests
import urllib3

from focalrepro.data.split import DatasetError
from focalrepro.progress import bar as progress_bar

TIMEOUT = (10, 60)  # seconds to connect, and between two packets
TRIES, WAIT = 4, 1.0  # of a request, and the seconds before the second; each wait is twice the last
GRACE, SLOWEST = 60, 50_000  # seconds, and bytes a second: what takes longer altogether is given up
_BUSY = {408, 425, 429, 500, 502, 503, 504}  # these may pass; "not found" or "forbidden" stays


class FetchError(Exception):
    """A request failed, and would fail again."""


class PassingError(FetchError):
    """A request failed in a way that another try could mend."""


def patiently(action: Callable[[], Any]) -> Any:
    """Calls `action` until it works; raises the last PassingError, or any other FetchError at once."""
    for attempt in range(TRIES - 1):
        try:
            return action()
        except PassingError:
            time.sleep(WAIT * 2**attempt)
    return action()


def receive(
    session: requests.Session, url: str, sink: IO[bytes], limit: int, progress: bool = False, start: int = 0
) -> None:
    """Write what `url` answers to `sink`, at most `limit` bytes and not too slowly.  Raises FetchError.

    Nothing compressed is taken, since it could unfold to any size, and https is not left for http.
    start: bytes that the sink has already; where the server does not go on from there, it begins anew.
    """
    seconds, got = GRACE + limit / SLOWEST, start
    end = time.monotonic() + seconds
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with session.get(url, timeout=TIMEOUT, stream=True, headers=headers) as response:
            if start and response.status_code == 416:  # no byte comes after those
                return
            response.raise_for_status()
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise FetchError("the server compresses what it sends, unasked")
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise FetchError(f"leads to {response.url}, which is not encrypted")
            if start and response.status_code != 206:
                sink.truncate(got := 0)
            size = got + int(response.headers.get("Content-Length", -got))
            shown = {"desc": f"fetch {url.rsplit('/', 1)[-1]}", "unit": "B", "unit_scale": True}
            with progress_bar(total=size or None, initial=got, disable=not progress, **shown) as bar:
                # read1 returns what one packet brought, so that a trickle cannot hold the loop for hours.
                while piece := response.raw.read1(1 << 16):
                    got += len(piece)
                    if max(got, size) > limit:
                        raise FetchError(f"is larger than {limit:,} bytes")
                    if time.monotonic() > end:
                        raise PassingError(f"took longer than {seconds:.0f} s")
                    sink.write(piece)
                    bar.update(len(piece))
    except requests.HTTPError as error:
        answer = error.response
        kind = PassingError if answer.status_code in _BUSY else FetchError
        raise kind(f"the server answers {answer.status_code} {answer.reason}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise PassingError(f"{type(error).__name__}: {error}") from error


def fetch_checked(url: str, path: Path, checksum: str, limit: int) -> None:
    """Makes `path` the content of `checksum` ("sha256:…" or "md5:…"), at most `limit` bytes, from `url`.

    What is there already and has the checksum stays; what was cut short is fetched on from where it was cut.
    Raises DatasetError with what the server answered.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and _checksum(path, checksum) == checksum:
        return
    partial = path.with_name(path.name + ".part")
    again = "check the connection and run the same command again"

    def go_on() -> None:
        with open(partial, "ab") as sink, requests.Session() as session:
            receive(session, url, sink, limit, progress=True, start=sink.tell())

    try:
        patiently(go_on)
    except FetchError as error:
        raise DatasetError(f"{url}: {error}; {again}") from error
    if _checksum(partial, checksum) != checksum:
        partial.unlink()
        raise DatasetError(f"{url}: does not have the checksum {checksum}; {again}")
    partial.replace(path)


def _checksum(path: Path, like: str) -> str:
    kind = like.partition(":")[0]
    with open(path, "rb") as stream:
        return f"{kind}:{hashlib.file_digest(stream, kind).hexdigest()}"
