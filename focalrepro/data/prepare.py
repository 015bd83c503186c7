"""`focalrepro data`: makes a dataset ready, and `ensure`, which a reproduction calls for the embedded one."""

from pathlib import Path

from focalrepro.data import DatasetError, data_root
from focalrepro.data.registry import describe, prepared, register

EMBEDDED = "synthetic"


def ensure(dataset: str) -> None:
    """Generates the embedded dataset where it is absent; DatasetError says how to get any other."""
    if dataset == EMBEDDED:
        from focalrepro.data.synthetic import generate

        generate(data_root())
    describe(dataset)


def prepare_dataset(
    dataset: str,
    source: Path | None,
    weights: Path | None,
    name: str,
    train_annotations: Path | None,
    train_images: tuple[Path, ...],
    val_annotations: Path | None,
    val_images: tuple[Path, ...],
) -> int:
    """Generates, imports, downloads or registers; prints where the dataset lies. Returns the exit status."""
    root = data_root()
    if dataset == "list":
        print("\n".join(prepared(root)) or f"no dataset is prepared in {root}")
        return 0
    if dataset == EMBEDDED:
        ensure(dataset)
        folder = root / EMBEDDED
    elif dataset == "coco256":
        from focalrepro.data.coco256 import import_coco256
        from focalrepro.data.download import download_coco256

        if source:
            folder = import_coco256(source, root, weights=weights)
        else:
            folder = download_coco256(root, weights=weights)
    else:
        if not name or not train_annotations or not val_annotations or not train_images or not val_images:
            raise DatasetError(
                "register needs --name, --train-annotations, --train-images, --val-annotations and --val-images"
            )
        folder = register(name, train_annotations, train_images, val_annotations, val_images, root)
    print(f"ready: {folder}")
    return 0
