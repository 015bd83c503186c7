"""focalrepro: the RetinaNet focal-loss ablations as notebooks over a small package (arXiv 1708.02002)."""

__version__ = "0.1.0"
