"""`make site`: the result pages and the executed notebooks as a static site that needs no network.

Pages are staged under the paths they have here (README.md as index.md), from the front page and results/
along every link; Sphinx renders them; then each link and each image of the HTML is followed. What leads
nowhere ends the build, with its page and its target. Nothing is executed.
"""

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
from itertools import chain
from os.path import normpath, relpath
from pathlib import Path
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).parent
MADE = ".made-by-this"  # in the folders that a build may empty
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.M | re.S)
LINK = re.compile(r"(!\[[^\]]*)?\]\(([^)\s#]+)(#[^)\s]*)?\)")
LISTINGS = {".py": "python", ".toml": "toml", ".cff": "yaml", "": "text"}  # shown as pages


class Stage:
    """`pages`: file of the repository -> text of its page; `files` are copied; `broken`: links to nothing."""

    def __init__(self, root: Path):
        self.root, self.pages, self.files, self.broken = root, {}, set(), []
        books = [sorted(folder.glob("*.ipynb")) for folder in root.glob("results/*/notebooks")]
        # The profile with most runs first: links to a notebook's source lead to its executed copy there.
        self.books = sorted(filter(None, books), key=lambda b: (-len([*b[0].parents[1].glob("runs/*")]), b))
        self.shown = {path.name: path for book in self.books[:1] for path in book}
        results = [path for path in root.glob("results/**/*.md") if ".partial" not in str(path)]
        front = [root / "README.md", root / "results" / "README.md"]  # then profiles, then the rest
        results.sort(key=lambda p: (p not in front, not (p.parent / "runs").is_dir(), p))
        self.trees = {front[0]: {"Notebooks": [*self.shown.values()], "Results": results}}
        self.trees |= {b[0].parents[1] / "README.md": {"Notebooks": b} for b in self.books[1:]}
        self.queue = [front[0], *results, *chain(*self.books)]
        listed = set(self.queue)
        for path in self.queue:  # which grows by what the pages link to
            if path not in self.pages:
                text = path.read_text(encoding="utf-8")
                orphan = "" if path in listed or path.suffix == ".ipynb" else "---\norphan: true\n---\n"
                self.pages[path] = orphan + self.page(path, text)

    def name(self, path: Path) -> Path:
        """A file's path in the site's source."""
        name = path.relative_to(self.root)
        suffix = ".md" if path.suffix in LISTINGS else ""
        return name.with_name("index.md" if name.name == "README.md" else name.name + suffix)

    def page(self, path: Path, text: str) -> str:
        if path.suffix == ".ipynb":
            return json.dumps(self.notebook(path, json.loads(text)), ensure_ascii=False)
        if path.suffix in LISTINGS:
            return f"# {path.relative_to(self.root)}\n\n````{LISTINGS[path.suffix]}\n{text}\n````\n"
        for caption, paths in self.trees.get(path, {}).items():
            names = "\n".join(f"/{self.name(p)}" for p in paths)
            text += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n{names}\n```\n"
        return self.linked(path, text)

    def linked(self, page: Path, text: str) -> str:
        """Markdown whose relative links lead to pages of the site, or to files copied beside them."""

        def link(found: re.Match) -> str:
            image, to, anchor = found.groups(default="")
            path = Path(normpath(page.parent / unquote(to)))
            if urlsplit(to).scheme:
                return found[0]
            if path.parent == self.root / "notebooks":
                path = self.shown.get(path.name, path)
            if path.is_dir():
                within = [path / "README.md", *sorted(path.glob("*.ipynb"))]
                path = next((p for p in within if p.exists()), path)
            if not (path.is_file() and path.is_relative_to(self.root)):
                self.broken.append(f"{page.relative_to(self.root)}: no file behind the link {to}")
                return found[0]
            shown = not image and (path.suffix in LISTINGS or path.suffix in (".md", ".ipynb"))
            self.queue.append(path) if shown else self.files.add(path)
            scheme = "" if image or shown else "copy:"  # see conf.py
            return f"{image}]({scheme}{relpath(self.name(path), page.parent.relative_to(self.root))}{anchor})"

        parts = CODE.split(text)
        return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))

    def notebook(self, path: Path, notebook: dict) -> dict:
        """Says its profile; parameters are left out, and code that only loads or draws is folded: what
        defines something or prints stays open."""
        cells = notebook["cells"]
        executed = any("injected-parameters" in cell["metadata"].get("tags", []) for cell in cells)
        for cell in cells:
            tags, outputs = cell["metadata"].setdefault("tags", []), cell.get("outputs", [])
            cell["source"] = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                cell["source"] = self.linked(path, cell["source"])
            elif executed and any("parameters" in tag for tag in tags):
                tags.append("remove-cell")
            elif "def " not in cell["source"] and (any("data" in o for o in outputs) or not outputs):
                tags.append("hide-input")
            for data in (o["data"] for o in outputs if "text/markdown" in o.get("data", {})):
                data["text/markdown"] = self.linked(path, "".join(data["text/markdown"]))
        profile = path.parents[1].name
        same = [p for book in self.books for p in book if p.name == path.name and p != path]
        others = ", ".join(f"[`{p.parents[1].name}`]({relpath(p, path.parent)})" for p in same)
        title, _, rest = cells[0]["source"].partition("\n")
        title += "" if path in self.shown.values() else f" (`{profile}`)"
        cells[0]["source"] = (
            f"{title}\n\nOf profile `{profile}`{others and '; the same of ' + others}.\n{rest}"
        )
        return notebook

    def copy(self, folder: Path, text: bool) -> None:
        for path in {*self.files, *(self.pages if text else [])}:
            (target := folder / self.name(path)).parent.mkdir(parents=True, exist_ok=True)
            if path in self.pages:
                target.write_text(self.pages[path], encoding="utf-8")
            else:
                shutil.copyfile(path, target)


def dead_ends(site: Path) -> list[str]:
    """What the built pages link to and is not there, and what they would load from the network."""
    texts = {p: p.read_text("utf-8") for p in sorted(site.rglob("*.html")) if "_static" not in p.parts}
    places = {p: {*re.findall(r'\s(?:id|name)="([^"]+)"', text)} for p, text in texts.items()}
    wrong = []
    for page, text in texts.items():
        for tag, to in sorted({*re.findall(r'<(\w+)\b[^>]*?\s(?:href|src)="([^"]+)"', text)}):
            url = urlsplit(unquote(html.unescape(to)))
            target = Path(normpath(page.parent / url.path)) if url.path else page
            if url.scheme or url.netloc:
                why = "" if tag == "a" or url.scheme == "data" else "loads from the network"
            else:
                place = not url.fragment or url.fragment in places.get(target, [url.fragment])
                why = ("" if place else "no such place on the page") if target.is_file() else "no file behind"
            wrong += [f"{page.relative_to(site)}: {why} {to}"] if why else []
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the site of a checkout's pages and notebooks.")
    parser.add_argument("--root", type=Path, default=HERE.parent)
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "site")
    options = parser.parse_args()
    root, out = options.root.resolve(), options.out.resolve()
    pages = out.with_name(f"{out.name}-pages")
    if (stage := Stage(root)).broken:
        sys.exit("\n".join(["site: links that lead nowhere:", *dict.fromkeys(stage.broken)]))
    for folder in (pages, out):
        if folder.exists() and not (folder / MADE).is_file() and any(folder.iterdir()):
            sys.exit(f"site: {folder} is there, was not made by this, and would be lost; give another --out")
    for folder in (pages, out):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / MADE).touch()
    stage.copy(pages, text=True)
    sphinx = [sys.executable, "-m", "sphinx", "-qWE", "--keep-going", "-c", HERE, "-d", f"{pages}-cache"]
    if subprocess.run([*sphinx, pages, out], check=False).returncode:
        sys.exit(f"site: Sphinx warns, above; what it read is in {pages}")
    stage.copy(out, text=False)
    for path in stage.pages:  # the download button gives the notebook as it was executed
        shutil.copyfile(path, out / "_sources" / stage.name(path))
    if wrong := dead_ends(out):
        sys.exit("\n".join(["site: built, with dead ends:", *wrong]))
    print(f"site: {len(stage.pages)} pages, {len(stage.files)} files; open {out / 'index.html'}")


if __name__ == "__main__":
    main()
