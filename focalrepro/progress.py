"""Progress with the time left: lively in a terminal, a line now and then in a log or a notebook."""

import multiprocessing
import os
import sys
from typing import Any

from tqdm import tqdm

LOG_INTERVAL = 20.0  # seconds
HEADLESS = "FOCALREPRO_HEADLESS"  # set where notebooks are executed without a reader


def bar(*args: Any, **kwargs: Any) -> tqdm:
    """tqdm as it is in a terminal; elsewhere it prints every LOG_INTERVAL seconds, not ten times a second;
    nothing in a notebook that papermill executes for whoever reads it later, nor from a worker."""
    silent = HEADLESS in os.environ or multiprocessing.parent_process() is not None
    kwargs["disable"] = kwargs.get("disable") or silent
    if not sys.stderr.isatty():
        kwargs = {"mininterval": LOG_INTERVAL, "maxinterval": LOG_INTERVAL, "ascii": " #", **kwargs}
    return tqdm(*args, **kwargs)
