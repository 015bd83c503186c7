"""Scripts that train, with and without `if __name__ == "__main__"`."""

import subprocess
import sys

BARE = """
import multiprocessing
from pathlib import Path
from focalrepro.study.campaign import run_planned
from focalrepro.study.store import Store

print(run_planned([], Store(Path("store"))))
worker = multiprocessing.get_context("spawn").Process(target=print, args=("reached",))
worker.start()
worker.join()
"""


def test_a_script_without_the_guard_is_told_so(tmp_path):
    """Its worker processes run it anew, so what it calls finds itself in one."""
    (tmp_path / "bare.py").write_text(BARE)
    done = subprocess.run([sys.executable, "bare.py"], cwd=tmp_path, capture_output=True, text=True)
    assert 'RuntimeError: put what calls this under `if __name__ == "__main__":`' in done.stderr
    assert "0 runs, 0 done already" in done.stdout and "reached" not in done.stdout


def test_a_worker_of_a_guarded_script_may_run_a_campaign(tmp_path):
    """As in a pool of the user's own."""
    bare = BARE.replace('print(run_planned([], Store(Path("store"))))', "if __name__ == '__main__':")
    guarded = bare.replace("\nworker", "\n    worker").replace(
        'target=print, args=("reached",)', 'target=run_planned, args=([], Store(Path("store")))'
    )
    (tmp_path / "guarded.py").write_text(guarded)
    done = subprocess.run([sys.executable, "guarded.py"], cwd=tmp_path, capture_output=True, text=True)
    assert "0 runs, 0 done already" in done.stdout and not done.stderr
