"""ansible-doc must be able to show every module: its documentation is YAML and names the options that the module takes."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

MODULES = sorted((Path(__file__).parents[2] / "plugins" / "modules").glob("*.py"))


def texts(path: Path) -> dict[str, str]:
    """Return the module's DOCUMENTATION, EXAMPLES and RETURN as written."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant):
            found[node.targets[0].id] = str(node.value.value)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_documentation_is_yaml_and_names_the_module(path: Path) -> None:
    found = texts(path)
    documentation: dict[str, Any] = yaml.safe_load(found["DOCUMENTATION"])
    assert documentation["module"] == path.stem
    assert documentation["short_description"]
    for name in ("EXAMPLES", "RETURN"):
        yaml.safe_load(found.get(name, ""))


def test_there_are_modules() -> None:
    assert MODULES
