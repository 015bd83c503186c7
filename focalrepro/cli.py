"""The command line: `focalrepro COMMAND`; `make help` shows the same work as Makefile targets."""

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc
from tyro.conf import OmitArgPrefixes, Positional, arg

from focalrepro.config import RARITIES, check_device
from focalrepro.files import refusal, repo_root

PROFILES = "smoke, quick, full-quick, coco-cpu, coco256, coco256-paper, coco"
ProfileName = Annotated[str, Doc(f"{PROFILES}, or a registered dataset")]
Device = Annotated[str, Doc("auto, cpu, cuda or cuda:N")]
Seeds = Annotated[int, Doc("how many seeds, from 0 on; 0: as many as the profile has")]
Ablations = Annotated[
    Positional[tuple[str, ...]],
    arg(metavar="[ABLATION ...]", help="by name, as `focalrepro status` lists them"),
]
RunName = Annotated[
    Positional[str], arg(metavar="RUN", help="a run's id, its beginning, or the path of its record")
]
DATASETS = ("synthetic", "coco", "coco256", "register", "list", *RARITIES)


def run(
    ablation: Ablations = (),
    /,
    profile: ProfileName = "quick",
    seeds: Seeds = 0,
    device: Device = "auto",
    workers: Annotated[int, Doc("runs at once; 0: as many as cores on a CPU, one on a GPU")] = 0,
    reuse: Annotated[Path | None, Doc("results to take finished runs from, e.g. results/coco256")] = None,
    limit: Annotated[int, Doc("at most this many runs; 0: all")] = 0,
    trial: Annotated[
        bool, Doc("3 steps on 16 images, kept apart: proves the path, gives no results")
    ] = False,
    loss: Annotated[
        str, Doc("FILE.py:FUNCTION, a loss of your own: its rate is searched, then it is compared")
    ] = "",
    own: Annotated[str, arg(name="ablation", help="FILE.py:NAME, an Ablation of your own")] = "",
    keep_weights: Annotated[bool, Doc("keep each model beside its record, for detect and export")] = False,
    on: Annotated[str, Doc("local, or a Ray cluster: ray, ray://HOST:PORT")] = "local",
    gpus_per_run: Annotated[float, Doc("of a Ray cluster's; .25: four runs share one")] = 1.0,
) -> int:
    """Computes the missing runs of ablations (all of the profile's, unless named). Needs no Jupyter."""
    check_device(device, "--device")
    if loss or own:
        if limit or trial or ablation or (loss and own) or on != "local" or gpus_per_run != 1:
            beside = "no ablation, --limit, --trial, --on or --gpus-per-run beside it"
            raise ValueError(f"--loss or --ablation stands alone: {beside}")
        from focalrepro.show.study import run_own

        how = {"seeds": seeds, "device": device, "workers": workers}
        print(run_own(loss, own, profile, reuse, keep_weights, how))
        return 0
    from focalrepro.study.campaign import run_ablations

    how = {"workers": workers, "reuse": reuse, "limit": limit, "on": on, "gpus_per_run": gpus_per_run}
    failed = run_ablations(profile, ablation, seeds, trial, keep_weights, device=device, **how)
    return 1 if failed else 0


def status(ablation: Ablations = (), /, profile: ProfileName = "quick", seeds: Seeds = 0) -> int:
    """Shows what is done, missing, diverged or failed, and the time that the missing runs will take."""
    from focalrepro.study.status import print_status

    return print_status(profile, ablation, seeds)


def report(
    profile: ProfileName = "quick",
    freeze: Annotated[bool, Doc("make these results the expected ones of a reproduction")] = False,
) -> int:
    """Writes results/PROFILE (tables, figures, results.csv) and the front page from the run JSONs,
    without training."""
    from focalrepro.evidence.expected import freeze as freeze_expected
    from focalrepro.show.front_page import update_front_page
    from focalrepro.show.profile_page import write_report
    from focalrepro.study.profiles import get_profile
    from focalrepro.study.study import Study

    p = get_profile(profile)  # else an unknown one would be told to train its runs
    print(f"wrote {_shown(write_report(profile))}")
    if freeze:
        print(f"wrote {_shown(freeze_expected(Study.committed(profile)))}")
    if not (p.own or profile == "smoke" or os.environ.get("FOCALREPRO_RESULTS")) and repo_root():
        update_front_page()
    return 0


def verify(profile: ProfileName = "quick") -> int:
    """Makes every table and verdict of results/PROFILE again from its runs; exits 1 with what differs, cell
    by cell, and with what does not belong to it. Writes nothing."""
    from focalrepro.show.verify import verify as differences

    off = differences(profile)
    print(*off, f"{profile}: {len(off) or 'no'} differences between its runs and its pages", sep="\n")
    return 1 if off else 0


def reproduce(
    ablation: Ablations = (),
    /,
    profile: ProfileName = "quick",
    seeds: Seeds = 0,
    device: Device = "auto",
    reuse: Annotated[bool, Doc("take the committed runs instead of training them again")] = False,
    data: Annotated[
        Path | None, Doc("your own: a COCO JSON, or a folder in YOLO's or Pascal VOC's form")
    ] = None,
    images: Annotated[tuple[Path, ...], Doc("the folders or tar files of a COCO JSON's images")] = (),
    val_data: Annotated[Path | None, Doc("without, a fifth of the images is kept out")] = None,
    val_images: tuple[Path, ...] = (),
    name: Annotated[str, Doc("of the profile that your data becomes; mine, if you give none")] = "",
    weights: Annotated[Path | None, Doc("the resnet50v2 weights, instead of downloading them")] = None,
    recipe: Annotated[tuple[str, ...], Doc("FIELD=VALUE of RunConfig, as steps=1000 resize=squash")] = (),
) -> int:
    """Everything: data, missing runs, executed notebooks, report, comparison with the committed results.
    Own data is looked at first; what it holds and what it will take is printed."""
    check_device(device, "--device")
    if data is None and (images or val_data or val_images or weights or recipe or name):
        also = "--images, --val-data, --val-images, --name, --weights and --recipe"
        raise ValueError(f"{also} belong to --data, which is not given")
    if data is not None and profile != "quick":
        raise ValueError(f"--data becomes a profile of its own, so leave out --profile {profile}")
    from focalrepro import hardware
    from focalrepro.files import results_root
    from focalrepro.show.forecast import agreed, take
    from focalrepro.show.notebooks import execute_all
    from focalrepro.show.profile_page import agreement, write_report
    from focalrepro.study.campaign import run_ablations
    from focalrepro.study.profiles import get_profile

    if data is not None:
        more = {"val_data": val_data, "val_images": val_images, "weights": weights}
        take(profile := name or "mine", data, images, more, recipe, ablation)
    started, p = time.perf_counter(), get_profile(profile)
    used = hardware.use_device(device)
    here = hardware.describe(str(used))
    print(f"profile {p.name}: {p.what}\nmeant for {p.hardware}; here: {here.get('gpu', here['cpu'])}")
    if p.own and not agreed(p, ablation, seeds, used):
        print(f"Not started. make reproduce PROFILE={profile} starts it.")
        return 0
    there = results_root(profile) if reuse else None
    if run_ablations(profile, ablation, seeds, device=device, reuse=there):
        return 1
    execute_all(profile)
    readme = write_report(profile)
    print(agreement(profile))
    minutes = (time.perf_counter() - started) / 60
    print(f"Done in {minutes:.1f} min. Read {_shown(readme)} (tables, figures) and the notebooks beside it.")
    return 0


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def notebooks(
    profile: ProfileName = "quick",
    only: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[NOTEBOOK ...]", help="how their names begin, as 04")
    ] = (),
) -> int:
    """Executes the notebooks with papermill into results/PROFILE/notebooks/."""
    from focalrepro.show.notebooks import execute_all

    execute_all(profile, only)
    return 0


def detect(
    run: RunName,
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE ...", help="files of any size")],
    /,
    score: Annotated[float, Doc("what scores less is neither printed nor drawn")] = 0.3,
    json: Annotated[Path | None, Doc("write every detection to this file")] = None,
    out: Annotated[Path, Doc("the folder for the pictures")] = Path(),
    device: Device = "auto",
) -> int:
    """Finds objects in images with a run's model, which `run --keep-weights` has kept."""
    check_device(device, "--device")
    from focalrepro.show.detect import detect_images

    print(*detect_images(run, images, score, json, out, device), sep="\n")
    return 0


def export(
    run: RunName, file: Annotated[Positional[Path], arg(metavar="FILE", help="ending in .safetensors")], /
) -> int:
    """Writes a run's kept model for torchvision's own RetinaNet, and beside it the Python that loads it."""
    from focalrepro.study.export import export as write

    print(*(f"wrote {_shown(path)}" for path in write(run, file)), sep="\n")
    return 0


def data(
    dataset: Positional[Literal[*DATASETS]],
    /,
    from_: Annotated[
        Path | None, arg(name="from", help="coco, coco256: a folder to import instead of downloading")
    ] = None,
    weights: Annotated[Path | None, Doc("the resnet50v2 weights, instead of fetching them")] = None,
    name: Annotated[str, Doc("register: the name of your dataset")] = "",
    train_annotations: Annotated[
        Path | None, Doc("register: a COCO JSON, or a folder in YOLO's or Pascal VOC's form")
    ] = None,
    train_images: tuple[Path, ...] = (),
    val_annotations: Annotated[Path | None, Doc("without, a fifth of the images is kept out")] = None,
    val_images: tuple[Path, ...] = (),
) -> int:
    """Prepares a dataset: generates the embedded one, imports or downloads COCO, or registers your own."""
    from focalrepro.data.prepare import prepare_dataset
    from focalrepro.study.profiles import PROFILES

    if dataset == "register" and name in PROFILES:
        raise ValueError(f"--name is {name!r}, which is a profile already; give your data another name")

    return prepare_dataset(
        dataset, from_, weights, name, train_annotations, train_images, val_annotations, val_images
    )


def bench(
    device: Device = "auto",
    trial: Annotated[
        bool, Doc("little of everything, kept beside the data: proves the path, measures nothing")
    ] = False,
    only: Annotated[str, Doc("one part alone, such as loss or ray, kept in a record of its own")] = "",
) -> int:
    """Speed against torchvision's RetinaNet and losses and pycocotools, in one run, into results/bench/."""
    check_device(device, "--device")
    from focalrepro.bench.run import run_bench

    return run_bench(device, trial, only)


def doctor(
    device: Annotated[
        str, Doc("prove that it computes right: cpu, cuda or cuda:N; without it: say what is here")
    ] = "",
) -> int:
    """Says what this machine has and which profiles it can run in what time; --device: proves that device."""
    check_device(device or "auto", "--device")
    from focalrepro.bench.doctor import doctor as examine

    return examine(device)


def rare(
    csv: Annotated[Path | None, Doc("your own table, at its own rate; default: the built-in data")] = None,
    target: Annotated[str, Doc("its binary column; the rarer value is the positive one")] = "",
    seeds: Annotated[int, Doc("splits and starts; 2 or more for intervals")] = 5,
    rates: Annotated[tuple[float, ...], Doc("negatives to one positive, e.g. 10 100 1000")] = (),
    steps: Annotated[int, Doc("training steps; 0: the default")] = 0,
    out: Annotated[Path | None, Doc("keep the rows in this CSV")] = None,
) -> int:
    """Focal loss on rare events in tables and small images, against cross entropy, weighted and not;
    trees too."""
    from focalrepro.rare.command import command

    return command(csv, target, seeds, rates, out, steps)


EVERY = (run, status, report, verify, reproduce, notebooks, detect, export, data, bench, doctor, rare)
COMMANDS = {command.__name__: command for command in EVERY}


def main() -> None:
    """Entry point: exit 2 with one line for wrong input and for what disk, memory or permissions refuse, 130
    after Ctrl-C. --debug or FOCALREPRO_DEBUG=1 shows the traceback above that line."""
    args = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(args) < len(sys.argv) - 1 or os.environ.get("FOCALREPRO_DEBUG", "0") not in ("", "0")
    about = "Where a command fails, --debug or FOCALREPRO_DEBUG=1 shows the traceback."
    how = {"prog": "focalrepro", "description": about, "args": args, "config": (OmitArgPrefixes,)}
    try:
        sys.exit(tyro.extras.subcommand_cli_from_dict(COMMANDS, **how))
    except BrokenPipeError:  # whoever read the output has read enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        if debug:
            traceback.print_exc()
        line = refusal(error) if isinstance(error, OSError | MemoryError) else str(error)
        print(f"focalrepro: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        kept = "; finished runs are kept, the same command goes on" * bool({"run", "reproduce"} & {*args[:1]})
        print(f"\nfocalrepro: stopped{kept}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
