"""What README and docs name is there: files, playbooks, make targets, variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from project import ROOT, specified

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = {"spark_masters", "spark_workers", "spark_clients"}


def prose(page: Path) -> str:
    """Return the page without comments, which name what is still to come."""
    return re.sub(r"(?s)<!--.*?-->", "", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page))
    assert [target for target in targets if not target.startswith("http") and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_playbooks_and_scripts_exist(page: Path) -> None:
    named = set(re.findall(r"(?<![\w/.])((?:playbooks|scripts|inventory|roles|molecule)/[\w./-]*\w)", prose(page)))
    mine = {name for name in named if name.startswith("inventory/mine")}
    assert sorted(name for name in named - mine if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = set(re.findall(r"(?m)(?:`|^)make ([a-z][a-z-]*)", prose(page)))
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_are_known_to_a_role(page: Path) -> None:
    roles = {path.name for folder in ("roles", "molecule") for path in (ROOT / folder).iterdir()}
    known = specified()
    # Fields and codes of reports are quoted in the code that writes them.
    code = "".join(path.read_text() for folder in ("plugins", "daemons") for path in (ROOT / folder).rglob("*.py"))
    reported = set(re.findall(r'"([a-z]+_[a-z0-9_]+)"', code))
    prefixes = tuple(sorted({name.split("_")[0] + "_" for name in known} - {"accept_"}))
    text = prose(page)
    named = set(re.findall(r"`([a-z]+_[a-z0-9_]+)`", text)) | set(re.findall(r"-e ([a-z]+_[a-z0-9_]+)=", text))
    assert {name for name in named if name.startswith(prefixes)} - known - reported - GROUPS - roles == set()
