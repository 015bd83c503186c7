"""Detection datasets: from COCO-format files, whatever their origin, to one array of pixels and one of boxes."""

from focalrepro.datasets.data import DatasetError, DetectionData
from focalrepro.datasets.registry import data_root, load, weights_path

__all__ = ["DatasetError", "DetectionData", "data_root", "load", "weights_path"]
