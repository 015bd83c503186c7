"""Sphinx, as `site/build.py` calls it: no notebook is executed, nothing is loaded from the network."""

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

project = html_title = "focalrepro"
extensions = ["myst_nb", "sphinx.ext.githubpages"]  # the latter writes .nojekyll
exclude_patterns = ["**/.ipynb_checkpoints"]
suppress_warnings = [
    "myst.header",  # a page may begin below level 1
    "mystnb.unknown_mime_type",  # widgets; their picture is shown
    "misc.highlighting_failure",
]

nb_execution_mode = "off"
nb_output_stderr = "remove"  # progress bars
nb_merge_streams = True
nb_render_markdown_format = "myst"  # the default knows no tables
nb_code_prompt_show, nb_code_prompt_hide = "Code", "Hide the code"
nb_ipywidgets_js = {}  # the default loads require.js from a CDN
nb_mime_priority_overrides = [("html", "text/html", 0), ("html", "image/png", 1)]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
# `copy:` marks links to files that are copied beside the pages, such as records.
myst_url_schemes = {"http": None, "https": None, "mailto": None, "copy": "{{path}}"}

html_theme = "sphinx_book_theme"
html_theme_options = {
    "home_page_in_toc": True,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "footer_content_items": [],
    "navbar_persistent": [],  # a second search field and menu button would take the first ones' clicks
}
html_static_path = ["static"]
html_css_files = ["site.css"]
# From file:// a browser refuses what the search would fetch for its excerpts.
SUMMARY = "DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:'"
html_js_files = [(None, {"body": SUMMARY})]
html_favicon = "static/icon.svg"
html_context = {"default_mode": "auto"}
html_show_sphinx = html_show_copyright = False
html_math_renderer = "mathml"  # browsers draw MathML by themselves: no script, no fonts


def setup(app: object) -> None:
    """Registers the renderer of formulas."""

    def draw(writer: object, node: object, as_block: bool = False) -> None:
        writer.body.append(tex2mathml(node.astext(), as_block=as_block))
        raise SkipNode

    app.add_html_math_renderer("mathml", (draw, None), (lambda w, n: draw(w, n, True), None))
