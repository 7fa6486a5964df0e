"""docs/variables.md is what scripts/variables writes, and specifications, defaults and use agree."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("variables_script", str(ROOT / "scripts/variables"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look their module up there
    loader.exec_module(module)
    return module


script = _script()


def _role(root: Path, defaults: str, options: str, tasks: str = "") -> None:
    for name, text in {
        "defaults/main.yml": defaults,
        "meta/argument_specs.yml": f"argument_specs: {{main: {{options: {options}}}}}",
        "tasks/main.yml": tasks,
    }.items():
        path = root / "roles/thing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_page_is_up_to_date() -> None:
    page = ROOT / "docs/variables.md"
    assert page.read_text() == script.render(script.read_roles()), "run scripts/variables"


def test_specifications_defaults_and_use_agree() -> None:
    assert script.problems(script.read_roles()) == []


@pytest.mark.parametrize(
    ("defaults", "options", "tasks", "complaint"),
    [
        ("thing_a: 1\nthing_b: 2", "{thing_a: {type: int, default: 1, description: A.}}", "x: '{{ thing_a }}'", "sets thing_b"),
        ("thing_a: 1", "{thing_a: {type: int, default: 2, description: A.}}", "x: '{{ thing_a }}'", "says default 2"),
        ("thing_a: '1'", "{thing_a: {type: str, default: 1, description: A.}}", "x: '{{ thing_a }}'", "says default 1"),
        ("", "{thing_a: {type: int, default: 2, description: A.}}", "x: '{{ thing_a }}'", "never applies"),
        ("thing_a: 1", "{thing_a: {type: int, description: A.}}", "thing_a: 3\nx: '{{ thing_ab }}'", "used nowhere"),
        ("thing_a: 1", "{thing_a: {type: int, description: A}}", "x: '{{ thing_a }}'", "full stop"),
    ],
)
def test_each_disagreement_is_named(tmp_path: Path, defaults: str, options: str, tasks: str, complaint: str) -> None:
    _role(tmp_path, defaults, options, tasks)
    found = script.problems(script.read_roles(tmp_path), tmp_path)
    assert len(found) == 1
    assert complaint in found[0]


def test_computed_defaults_are_shown_and_not_compared(tmp_path: Path) -> None:
    _role(tmp_path, "thing_a: '{{ thing_b | default(1) }}'", "{thing_a: {description: Either a | b.}}", "x: '{{ thing_a }}'")
    roles = script.read_roles(tmp_path)
    assert script.problems(roles, tmp_path) == []
    assert "| `thing_a` | str | `{{ thing_b \\| default(1) }}` |  | Either a \\| b. |" in script.render(roles)
