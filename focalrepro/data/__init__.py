"""Detection datasets: from COCO-format files to one array of pixels and one of boxes."""

from focalrepro.data.registry import load, load_coco, weights_path
from focalrepro.data.split import DatasetError, DetectionData
from focalrepro.files import data_root

__all__ = ["DatasetError", "DetectionData", "data_root", "load", "load_coco", "weights_path"]
