"""Real parts for tests: an ensemble from Spark's jars. Tests are skipped, and say so, where there is no Java or no Spark."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ensemble import Ensemble, find_jars
from missing import missing


@pytest.fixture(scope="session")
def zookeeper_jars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of jars with ZooKeeper in it; without, the tests are skipped (in CI: fail)."""
    if not os.environ.get("JAVA_HOME") and not shutil.which("java"):
        missing("no java: install a JRE or set JAVA_HOME")
    jars = find_jars(tmp_path_factory.mktemp("jars"))
    if jars is None:
        missing("no ZooKeeper jars: deploy once (the cache then has them) or set SPARK_HA_JARS to the jars/ of a Spark")
    return jars


@pytest.fixture
def ensemble(zookeeper_jars: Path, tmp_path: Path) -> Iterator[Ensemble]:
    """Three servers in quorum, fresh for this test."""
    with Ensemble(zookeeper_jars, tmp_path / "ensemble") as servers:
        yield servers


@pytest.fixture(scope="module")
def shared_ensemble(zookeeper_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """Three servers in quorum for all tests of a module; leave them as you found them."""
    with Ensemble(zookeeper_jars, tmp_path_factory.mktemp("ensemble")) as servers:
        yield servers


@pytest.fixture(scope="module")
def zookeeper(zookeeper_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """One standalone server for all tests of a module: the quickest to start."""
    with Ensemble(zookeeper_jars, tmp_path_factory.mktemp("zookeeper"), size=1) as servers:
        yield servers
