"""The pages of docs/ as a site: each is in the navigation of mkdocs.yml, and every link leads somewhere. Needs no
MkDocs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def navigation() -> list[str]:
    text = (ROOT / "mkdocs.yml").read_text()
    return re.findall(r"^ +- [^:\n]+: (\S+\.md)$", text[text.index("\nnav:") :], re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The ids of the headings of a page, as Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub(lambda found: found[0].strip("`"), page.read_text()), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_every_page_is_in_the_navigation_once_and_nothing_else_is():
    assert sorted(navigation()) == [page.relative_to(DOCS).as_posix() for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_link_of_a_page_leads_to_a_file_and_a_heading_of_it(page):
    for target in LINK.findall(CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.is_file(), f"{page.name} links to {target}"
        assert file.is_relative_to(DOCS), f"{page.name} links to {target}, which is not a part of the site"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name} links to {target}"


def test_the_modules_of_the_api_reference_exist():
    import importlib

    for page in sorted((DOCS / "reference").glob("*.md")):
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                module, _, attribute = name.rpartition(".")
                assert hasattr(importlib.import_module(module), attribute), name


def test_pages_begin_with_one_heading():
    for page in PAGES:
        text = page.read_text()
        if not text.startswith("--8<--"):
            assert text.startswith("# ") and len(re.findall(r"^# ", CODE.sub("", text), re.MULTILINE)) == 1, page


def test_no_page_holds_the_marks_of_an_unfinished_merge():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        lines = page.read_text().splitlines()
        assert not [line for line in lines if line.startswith(("<" * 7, ">" * 7))], page
