"""Every relative link and image in the documentation leads to a file of the repository."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SKIPPED = {".venv", ".run", "var", "build", "node_modules", ".git", ".pytest_cache"}
PAGES = sorted(p for p in ROOT.rglob("*.md") if not SKIPPED & {*p.relative_to(ROOT).parts})
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.M | re.S)


def targets(page: Path) -> list[str]:
    found = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return [t.partition("#")[0] for t in found if not re.match(r"[a-z]+:|#", t)]


def test_there_are_pages_and_links():
    assert ROOT / "README.md" in PAGES
    assert "docs/architecture.md" in targets(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_exists(page):
    assert [t for t in targets(page) if not (page.parent / t).exists()] == []
