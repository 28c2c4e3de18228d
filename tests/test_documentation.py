"""Pages and links of the documentation that need no build to be checked."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOC = ROOT / "doc"
GENERATED = {
    "supported_models",
    "changelog",
    "auto_examples/index",
}  # when the documentation is built
WITH_TOCTREE = [page for page in DOC.rglob("index.rst") if "auto_examples" not in page.parts]


def toctree(page):
    """Paths named by the toctrees of a page, relative to its folder."""
    blocks = re.findall(r"^\.\. toctree::\n(?:   :.*\n)*\n((?:   \S.*\n)+)", page.read_text(), re.M)
    return [line.strip() for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("page", WITH_TOCTREE, ids=lambda page: str(page.relative_to(DOC)))
def test_pages_of_toctrees_exist(page):
    found = {name for name in toctree(page) if (page.parent / f"{name}.rst").is_file()}
    assert found and set(toctree(page)) - GENERATED == found - GENERATED


def test_every_guide_page_is_in_its_toctree():
    guide = DOC / "guide" / "index.rst"
    assert sorted([*toctree(guide), "index"]) == sorted(p.stem for p in guide.parent.glob("*.rst"))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_relative_links_resolve(name):
    page = ROOT / name
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_examples_named_in_the_guide_exist():
    pages = [*(DOC / "guide").glob("*.rst"), *(ROOT / "examples").rglob("*.py")]
    named = {
        ref
        for page in pages
        for ref in re.findall(r"sphx_glr_auto_examples_(\w+)\.py", page.read_text())
    }
    scripts = (ROOT / "examples").rglob("*.py")
    known = {"_".join(s.relative_to(ROOT / "examples").with_suffix("").parts) for s in scripts}
    assert named and named <= known


def test_every_reference_has_a_doi():
    text = (DOC / "references.rst").read_text(encoding="utf-8")
    entries = re.split(r"^- ", text, flags=re.M)[1:]
    assert (
        entries and [e for e in entries if not re.search(r"https://doi\.org/10\.\d{4,}/", e)] == []
    )


def test_every_package_compared_has_a_version_and_its_page():
    """Of each row but our own: ``name version`` with a link to just that version."""
    text = (DOC / "comparison.rst").read_text(encoding="utf-8")
    rows = re.findall(r"^   \* - `(\S+) (\S+) <(\S+)>`__", text, re.M)
    assert len(rows) == text.count("   * - ") - 2
    assert [url for name, version, url in rows if not url.endswith(f"/{name}/{version}/")] == []


def test_dead_links_are_found(tmp_path):
    """What the build warns of, on two pages with one live and one dead link of each kind."""
    spec = importlib.util.spec_from_file_location("links", DOC / "links.py")
    links = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(links)
    (tmp_path / "a.html").write_text(
        '<p id="x"></p><a href="#x"></a><a href="#y"></a><a href="https://b.org/c#d"></a>'
        '<a href="b.html#here"></a><a href="b.html#there"></a><img src="no.png">'
    )
    (tmp_path / "b.html").write_text('<p id="here"></p><a href="a.html"></a><a href="c.html"></a>')
    dead = [("a.html", "#y"), ("a.html", "b.html#there"), ("a.html", "no.png")]
    assert sorted(links.dead_links(tmp_path)) == [*dead, ("b.html", "c.html")]
