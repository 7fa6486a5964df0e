"""What a test does on a machine that lacks a real part."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip, but never in CI: there everything must be at hand."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
