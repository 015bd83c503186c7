"""`make site-check`: every page of the site in headless Chromium, from file://, at the width of a desk and of
a phone, light and dark, all folds open. Says which page complains, lacks a file or an image, or is wider than
its screen, and exits 1. With a folder as argument, leaves pictures of the pages there."""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

SITE = Path(__file__).parents[1] / "build" / "site"
BROWSER = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
LOOK = """() => ({
  broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
  wide: [...document.querySelectorAll("details")].forEach(d => d.open = true) ||
    document.documentElement.scrollWidth - document.documentElement.clientWidth,
})"""


def listen(page: Page, said: list[str]) -> None:
    """What the browser complains of on a page, and what it does not get, is added to `said`."""
    page.on("console", lambda m: m.type in ("error", "warning") and said.append(m.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: r.url.startswith("http") and said.append(f"asks for {r.url}"))
    page.on("requestfailed", lambda r: said.append(f"did not get {r.url}"))


def main() -> None:
    pages = [p for p in sorted(SITE.rglob("*.html")) if "_static" not in p.parts]
    if not pages:
        sys.exit(f"site-check: no page in {SITE}; run `make site` first")
    if BROWSER is None:
        sys.exit("site-check: no Chromium on the PATH; install one, or say where: make site-check CHROMIUM=…")
    pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    wrong: set[str] = set()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for path in pages:
            name, page = path.relative_to(SITE), browser.new_page()
            listen(page, said := [])
            page.goto(path.as_uri(), wait_until="load")
            for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
                page.set_viewport_size({"width": width, "height": 850})
                page.emulate_media(color_scheme=scheme)
                page.wait_for_function("s => document.documentElement.dataset.theme === s", arg=scheme)
                look = page.evaluate(LOOK)
                said += [f"broken image {image}" for image in look["broken"]]
                if look["wide"] > 0:
                    said.append(f"at {width} px it is {look['wide']} px wider than the screen")
                if pictures:
                    file = f"{'-'.join(name.with_suffix('').parts)}-{width}-{scheme}.png"
                    page.screenshot(path=pictures / file, full_page=True)
            page.close()
            wrong |= {f"{name}: {text}" for text in said}
        page = browser.new_page(viewport={"width": 390, "height": 850})
        listen(page, said := [])
        page.goto((SITE / "index.html").as_uri())
        page.locator(".primary-toggle:visible").click()
        page.locator("dialog[open] a.internal:visible").nth(1).click()  # the menu of a phone
        page.locator("a.right-next").click()
        page.goto((SITE / "search.html").as_uri() + "?q=anchors")
        page.locator("#search-results li a").first.wait_for()
        wrong |= {f"menu, next, search: {text}" for text in said}
        browser.close()
    if wrong:
        sys.exit("\n".join(["site-check:", *sorted(wrong)]))
    print(f"site-check: {len(pages)} pages, two widths, light and dark, and a search: nothing to complain of")


if __name__ == "__main__":
    main()
