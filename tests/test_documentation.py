"""The documentation says what the code does: generated pages are current, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_configuration_page_is_current():
    process = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "configuration_page.py")], capture_output=True, text=True, check=True
    )
    current = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert process.stdout == current, "run: python scripts/configuration_page.py > docs/configuration.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
