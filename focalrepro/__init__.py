"""focalrepro: the RetinaNet focal-loss ablations as notebooks over a small package (arXiv 1708.02002).

`focalrepro.Study("quick")` is a profile with its runs, tables, figures and claims; `focalrepro.losses` has
the loss.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Study"]


def __getattr__(name: str) -> Any:
    """Study is imported when it is first asked for: the loss alone needs neither figures nor tables."""
    if name == "Study":
        from focalrepro.show.study import Study

        return Study
    raise AttributeError(f"module 'focalrepro' has no attribute {name!r}")
