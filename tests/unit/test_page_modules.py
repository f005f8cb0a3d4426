"""The chat page: its modules' own tests, and the rules its files must keep."""

import re
import shutil
import subprocess
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "static"
VENDORED = STATIC / "vendor"
MODULES = sorted(STATIC.rglob("*.mjs"))
VENDOR_LIST = VENDORED / "README.md"
OWN_MODULES = [module for module in MODULES if VENDORED not in module.parents]
MAX_MODULE_LINES = 150


class PageParser(HTMLParser):
    """Collects the tags of index.html with their attributes, and text inside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline_code = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.inline_code += data


@pytest.fixture
def page() -> PageParser:
    parser = PageParser()
    parser.feed((STATIC / "index.html").read_text())
    return parser


def test_modules_pass_their_own_tests() -> None:
    """`node --test` is green; its output is shown otherwise."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")

    tests = sorted((ROOT / "tests" / "page").glob("*.test.mjs"))
    run = subprocess.run([node, "--test", *tests], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr


def test_modules_are_short_and_checked() -> None:
    """A module has at most 150 lines and asks editors to check its types."""
    sources = {module.name: module.read_text() for module in OWN_MODULES}

    assert sources
    assert [n for n, text in sources.items() if text.count("\n") > MAX_MODULE_LINES] == []
    assert [n for n, text in sources.items() if not text.startswith("// @ts-check\n")] == []


def test_modules_never_turn_text_into_markup_or_code() -> None:
    """What a model says cannot become HTML, and no string becomes a script."""
    sinks = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    )

    assert [module.name for module in MODULES if sinks.search(module.read_text())] == []


def test_nothing_is_fetched_from_elsewhere() -> None:
    """No file names another origin; a namespace of SVG, or a project's home, is no address."""
    elsewhere = re.compile(r"""(?:https?:)?//[\w-]+\.\w""")
    files = [path for path in STATIC.rglob("*") if path.suffix in {".mjs", ".css", ".html", ".svg"}]
    named = re.compile(r"http://www\.w3\.org/2000/svg|^/\*! .* \*/$", re.MULTILINE)
    texts = {path: named.sub("", path.read_text()) for path in files}

    assert [path.name for path, text in texts.items() if elsewhere.search(text)] == []


def test_foreign_modules_are_what_their_list_says() -> None:
    """Each has its version, its digest and its licence beside it, and nobody has edited it."""
    listed = re.findall(
        r"^\| `([\w.-]+)` .*`([0-9a-f]{64})`", VENDOR_LIST.read_text(), re.MULTILINE
    )
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in VENDORED.glob("*.mjs")}

    assert dict(listed) == found
    assert all((VENDORED / name).with_suffix(".LICENSE").is_file() for name in found)


def test_page_has_no_inline_code(page: PageParser) -> None:
    """The strict content security policy would refuse it."""
    names = [name for _, attributes in page.tags for name in attributes]

    assert page.inline_code.strip() == ""
    assert [name for name in names if name == "style" or name.startswith("on")] == []


def test_page_refers_to_files_that_exist(page: PageParser) -> None:
    """Each script, style sheet and picture is there, relative to the page."""
    references = [a.get("src") or a.get("href") for _, a in page.tags if "src" in a or "href" in a]

    assert references
    assert [r for r in references if r is None or not (ROOT / r).is_file()] == []


def test_page_preloads_every_module(page: PageParser) -> None:
    """A slow line fetches all modules at once instead of one import after the other."""
    preloaded = {a["href"] for tag, a in page.tags if tag == "link" and a["rel"] == "modulepreload"}
    imported = {
        m.relative_to(ROOT).as_posix() for m in MODULES if m.name not in {"main.mjs", "types.mjs"}
    }

    assert preloaded == imported


def test_ids_are_unique_and_labels_find_their_controls(page: PageParser) -> None:
    """A screen reader finds the label of each control."""
    ids = [a["id"] for _, a in page.tags if "id" in a]
    labelled = [a["for"] for tag, a in page.tags if tag == "label"]

    assert len(ids) == len(set(ids))
    assert set(labelled) <= set(ids)
    assert {a["id"] for t, a in page.tags if t in {"select", "textarea", "input"}} == set(labelled)
