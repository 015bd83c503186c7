"""Fetching over the network: bounded in bytes and time, tried again where that can help, checked."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pooch
import requests
import urllib3

from focalrepro.data.split import DatasetError
from focalrepro.progress import bar as progress_bar

TIMEOUT = (10, 60)  # seconds to connect, and between two packets
GRACE, SLOWEST = 60, 50_000  # seconds, and bytes a second: what takes longer altogether is given up
_BUSY = {408, 425, 429, 500, 502, 503, 504}  # these may pass; "not found" or "forbidden" stays


class FetchError(Exception):
    """A request failed, and would fail again."""


class PassingError(FetchError):
    """A request failed in a way that another try could mend."""


@dataclass(frozen=True)
class Retry:
    """How often a request is tried, and the seconds before the second try; each wait is twice the last."""

    tries: int = 4
    wait: float = 1.0

    def __call__(self, action: Callable[[], Any]) -> Any:
        """Calls `action` until it works; raises the last PassingError, or any other FetchError at once."""
        for attempt in range(1, self.tries):
            try:
                return action()
            except PassingError:
                time.sleep(self.wait * 2 ** (attempt - 1))
        return action()


PATIENT = Retry()


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


def fetch_checked(
    addresses: Sequence[str], path: Path, checksum: str, limit: int, retry: Retry, progress: bool
) -> None:
    """Makes `path` the content of `checksum` ("sha256:…" or "md5:…"), from the first address that gives it.

    What is there already and has the checksum stays.  Raises DatasetError with what each address answered.
    """

    def download(url: str, target: str, _: object) -> None:
        with open(target, "wb") as sink, requests.Session() as session:
            receive(session, url, sink, limit, progress)

    failures = []
    for url in addresses:
        for rest in path.parent.glob("tmp*"):  # pooch's, of a download that was killed
            rest.unlink()
        get = {"url": url, "known_hash": checksum, "fname": path.name, "path": path.parent}
        try:
            return retry(lambda get=get: pooch.retrieve(**get, downloader=download))
        except FetchError as error:
            failures.append(f"{url}: {error}")
        except ValueError:  # pooch's word for a wrong checksum
            failures.append(f"{url}: does not have the checksum {checksum}")
    raise DatasetError("; ".join(failures) + "; check the connection and run the same command again")
