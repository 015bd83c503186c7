"""Executes the notebooks with papermill into results/<profile>/notebooks/: whole or not at all."""

import multiprocessing
import os
import re
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from pathlib import Path

import nbformat
import papermill
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from focalrepro import hardware
from focalrepro.files import repo_root, results_root, write_atomic
from focalrepro.progress import HEADLESS
from focalrepro.progress import bar as progress_bar
from focalrepro.show.sentences import LEFT_OUT, UNJUDGED
from focalrepro.show.tables import NONE
from focalrepro.study.profiles import get_profile

CELL_TIMEOUT = 3600  # seconds
AT_ONCE = 4  # kernels at the most; each takes up to a gigabyte


def sources(only: Sequence[str] = ()) -> list[Path]:
    """The source notebooks in their order, or those whose name begins with one of `only`.

    Errors: FileNotFoundError outside a checkout; ValueError for a name that no notebook begins with.
    """
    folder = (repo_root() or Path.cwd()) / "notebooks"
    notebooks = sorted(folder.glob("[0-9A-Z]*.ipynb"))
    if not notebooks:
        raise FileNotFoundError(f"{folder}: no notebooks here; run this inside a checkout of the repository")
    for start in only:
        if not any(path.stem.startswith(start) for path in notebooks):
            names = ", ".join(path.stem for path in notebooks)
            raise ValueError(f"no notebook's name begins with {start!r}; there are {names}")
    return [path for path in notebooks if not only or path.stem.startswith(tuple(only))]


def execute_all(profile: str, only: Sequence[str] = ()) -> list[Path]:
    """Executes all notebooks, or those of `only` (`sources`), one a core at once; returns the executed files.

    Errors: ValueError for an unknown profile or name, before anything is made; RuntimeError naming the
    notebook, its last error line and the partial file, which alone is left of a failed execution.
    """
    get_profile(profile)
    chosen = sources(only)
    target = results_root(profile) / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    workers = min(AT_ONCE, hardware.cores(), len(chosen))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (os.getpid(),))
    try:
        # From the last on: the longest is among them, and would be waited for.
        jobs = [pool.submit(execute, source, target, profile) for source in chosen[::-1]]
        with progress_bar(total=len(chosen), desc="notebooks", unit="notebook") as bar:
            for job in as_completed(jobs):
                bar.set_postfix_str(job.result().stem, refresh=False)
                bar.update()
    except BrokenProcessPool as error:
        what = "a process that executes notebooks was killed, for lack of memory, it may be"
        raise RuntimeError(f"{what}; the same command begins with them again") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():  # whose end ends their kernels
            process.terminate()
    return [target / source.name for source in chosen]


def _begin(parent: int) -> None:
    """A process of the pool: it ends with its parent, and Ctrl-C is that one's."""
    hardware.die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def execute(source: Path, folder: Path, profile: str) -> Path:
    """Executes a notebook to a partial file in `folder` and renames it: papermill rewrites its output."""
    target = folder / source.name
    # Photos of COCO are other people's: an executed notebook, which may be published, has boxes only. What it
    # shows was trained before, or is said to be missing.
    parameters = {"profile": profile, "show_photos": False, "train": False}
    unknown = set(parameters) - set(papermill.inspect_notebook(str(source)))
    if unknown:
        raise RuntimeError(f"{source}: its parameters cell lacks {', '.join(sorted(unknown))}")
    os.environ.setdefault(HEADLESS, "1")
    draft = target.with_name(f"{target.stem}.partial.ipynb")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else every kernel warns of frozen modules
    try:
        papermill.execute_notebook(
            str(source),
            str(draft),
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            coalesce_streams=True,
            store_widget_state=False,
            execution_timeout=CELL_TIMEOUT,
            # Else each kernel warns of its local connection and of the interrupt that ends it. What fails in
            # a cell is told by papermill.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except papermill.PapermillExecutionError as error:
        where = f"{source.name}: cell {error.exec_count}"
        raise RuntimeError(f"{where}: {error.ename}: {error.evalue} (see {draft})") from error
    except (RuntimeError, TimeoutError) as error:  # a kernel that was killed, a cell that took too long
        line = str(error).strip().partition("\n")[0]
        raise RuntimeError(f"{source.name}: {type(error).__name__}: {line} (see {draft})") from error
    notebook = nbformat.read(draft, as_version=4)
    notebook.cells = with_data(notebook.cells)
    write_atomic(target, without_paths(nbformat.writes(notebook).replace(draft.name, target.name)))
    draft.unlink()
    return target


def with_data(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells of an executed notebook, where a section that shows nothing but lines on what is left out is
    the first of these lines alone."""
    starts = [i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and cell.source[:1] == "#"]
    kept = cells[: starts[0]]
    for start, end in pairwise([*starts, len(cells)]):
        section = cells[start:end]
        outputs = [o for cell in section if cell.cell_type == "code" for o in cell.outputs]
        said = [o.get("data", {}).get("text/markdown", "") for o in outputs]
        lines = [line for line in said if line != NONE]
        empty = lines and all(line.startswith((LEFT_OUT, UNJUDGED)) for line in lines)
        kept += [new_markdown_cell(lines[0])] if empty else section
    return kept


def without_paths(text: str) -> str:
    """Takes the folder of this checkout out of a notebook that others will read."""
    root = re.escape(str(repo_root() or Path.cwd()))
    return re.sub(rf"{root}(?![\w-])", ".", re.sub(f"{root}/", "", text))
