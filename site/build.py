"""`make site`: the result pages and the executed notebooks as a static site that needs no network.

Pages are staged under the paths they have here (README.md as index.md), from the front page and results/ along
every link; Sphinx renders them; then each link and each image of the HTML is followed. Whatever leads nowhere
ends the build with its page and its target. Nothing is executed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).parent
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.M | re.S)
LINK = re.compile(r"(!\[[^\]]*)?\]\(([^)\s#]+)(#[^)\s]*)?\)")
LISTINGS = {".py": "python", ".toml": "toml", ".cff": "yaml", ".yml": "yaml", "": "text"}


class Stage:
    """Pages on their way to Sphinx: `pages` maps a file of the repository to its page, `files` are copied as
    they are, `broken` says which links lead nowhere."""

    def __init__(self, root: Path):
        self.root, self.pages, self.files, self.broken = root, {}, set(), []
        # Links to a notebook's source lead to its executed copy in the profile that has most runs.
        folders = [p for p in root.glob("results/*/notebooks") if any(p.glob("*.ipynb"))]
        folders.sort(key=lambda p: (-len(list(p.parent.glob("runs/*.json"))), p))
        self.notebooks = {p.parent.name: sorted(p.glob("*.ipynb")) for p in folders}
        self.shown = {p.name: p for p in next(iter(self.notebooks.values()), [])}
        self.results = sorted(p for p in root.glob("results/**/*.md") if ".partial" not in str(p))
        self.queue = [root / "README.md", *self.results, *sum(self.notebooks.values(), [])]
        while self.queue:
            if (path := self.queue.pop(0)) not in self.pages:
                self.pages[path] = self.page(path)

    def target(self, page: Path, link: str) -> Path | None:
        """The file behind a relative link; of a folder its README or its first notebook."""
        path = Path(os.path.normpath(page.parent / unquote(link)))
        if path.parent == self.root / "notebooks":
            path = self.shown.get(path.name, path)
        if path.is_dir():
            path = next((p for p in [path / "README.md", *sorted(path.glob("*.ipynb"))] if p.exists()), path)
        return path if path.is_file() and path.is_relative_to(self.root) else None

    def rewritten(self, page: Path, text: str) -> str:
        """Markdown whose links lead to pages of the site, or to files copied beside them."""

        def link(found: re.Match) -> str:
            image, to, anchor = found.groups(default="")
            if urlsplit(to).scheme:
                return found[0]
            if (path := self.target(page, to)) is None:
                self.broken.append(f"{page.relative_to(self.root)}: no file behind the link {to}")
                return found[0]
            readable = path.suffix in (".md", ".ipynb", *LISTINGS)
            if readable and not image:
                self.queue.append(path)
            else:
                self.files.add(path)
            near = os.path.relpath(self.name(path), page.parent.relative_to(self.root))
            return f"{image}]({'' if readable or image else 'copy:'}{near}{anchor})"

        parts = CODE.split(text)
        return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))

    def name(self, path: Path) -> Path:
        """A file's path within the site's source."""
        name = path.relative_to(self.root)
        if name.name == "README.md":
            return name.with_name("index.md")
        return name.with_name(f"{name.name}.md") if path.suffix in LISTINGS else name

    def page(self, path: Path) -> str:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            return json.dumps(self.notebook(path, json.loads(text)), ensure_ascii=False)
        if path.suffix in LISTINGS:
            title = path.relative_to(self.root)
            return f"---\norphan: true\n---\n# {title}\n\n````{LISTINGS[path.suffix]}\n{text}\n````\n"
        head = "" if path in self.results or path == self.root / "README.md" else "---\norphan: true\n---\n"
        return head + self.rewritten(path, text) + self.contents(path)

    def notebook(self, path: Path, notebook: dict) -> dict:
        """Its links rewritten, its defaults left out where papermill put others, and code that only loads or
        draws folded: what defines something or prints stays open."""
        tags = [set(cell["metadata"].get("tags", [])) for cell in notebook["cells"]]
        for cell, own in zip(notebook["cells"], tags, strict=True):
            source, outputs = "".join(cell["source"]), cell.get("outputs", [])
            if cell["cell_type"] == "markdown":
                cell["source"] = self.rewritten(path, source)
            elif "parameters" in own and any("injected-parameters" in t for t in tags):
                own.add("remove-cell")
            elif "def " not in source and (any("data" in o for o in outputs) or not outputs):
                own.add("hide-input")
            for data in (o["data"] for o in outputs if "text/markdown" in o.get("data", {})):
                data["text/markdown"] = self.rewritten(path, "".join(data["text/markdown"]))
            cell["metadata"]["tags"] = sorted(own)
        return notebook

    def contents(self, path: Path) -> str:
        """The table of contents that a page adds to the side bar."""
        folder, trees = path.parent, {}
        if path == self.root / "README.md":
            trees = {f"Notebooks, {name}": books for name, books in list(self.notebooks.items())[:1]}
            trees["Results"] = self.results
        elif path.name == "README.md" and folder.name in list(self.notebooks)[1:]:
            trees = {"Notebooks": self.notebooks[folder.name]}
        return "".join(
            f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n"
            + "\n".join(str(self.name(p).relative_to(folder.relative_to(self.root))) for p in paths)
            + "\n```\n"
            for caption, paths in trees.items()
        )

    def write(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        for path, text in self.pages.items():
            (folder / self.name(path)).parent.mkdir(parents=True, exist_ok=True)
            (folder / self.name(path)).write_text(text, encoding="utf-8")
        self.copy(folder)

    def copy(self, folder: Path) -> None:
        for path in self.files:
            (folder / self.name(path)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / self.name(path))


class Page(HTMLParser):
    """The links, the parts (images, styles, scripts) and the anchors of a built page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.parts, self.anchors = set(), set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if values.get("href"):
            (self.parts if tag == "link" else self.links).add(values["href"])
        if values.get("src"):
            self.parts.add(values["src"])


def dead_ends(site: Path) -> list[str]:
    """What the built pages link to and is not there, and what they would load from the network."""
    built = [path.resolve() for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    pages, wrong = {path: Page(path) for path in built}, []
    for path, page in pages.items():
        for to in sorted(page.links | page.parts):
            url = urlsplit(to)
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if url.scheme == "data" or (url.scheme and to not in page.parts):
                continue
            if url.scheme or url.netloc:
                wrong.append(f"{path.relative_to(site.resolve())}: loads {to} from the network")
            elif not target.is_file():
                wrong.append(f"{path.relative_to(site.resolve())}: no file behind {to}")
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].anchors:
                wrong.append(f"{path.relative_to(site.resolve())}: no such place: {to}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the site from a checkout's pages and notebooks.")
    parser.add_argument("--root", type=Path, default=HERE.parent)
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "site")
    options = parser.parse_args()
    root, out = options.root.resolve(), options.out.resolve()
    source = out.with_name(f"{out.name}-pages")
    stage = Stage(root)
    if stage.broken:
        sys.exit("\n".join(["site: links that lead nowhere:", *stage.broken]))
    stage.write(source)
    shutil.rmtree(out, ignore_errors=True)
    sphinx = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", "-c", str(HERE)]
    if subprocess.run([*sphinx, "-d", f"{source}-cache", str(source), str(out)], check=False).returncode:
        sys.exit("site: Sphinx warns of the pages above; names are those of the pages in " + str(source))
    stage.copy(out)
    if wrong := dead_ends(out):
        sys.exit("\n".join(["site: built, with dead ends:", *wrong]))
    print(f"site: {len(stage.pages)} pages, {len(stage.files)} files; open {out / 'index.html'}")


if __name__ == "__main__":
    main()
