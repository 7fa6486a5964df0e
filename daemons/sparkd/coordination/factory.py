"""The engine that spark.deploy.recoveryMode asks for."""

from __future__ import annotations

import importlib

from ..settings import RecoverySettings
from .api import Engine, Misconfigured


def make_engine(settings: RecoverySettings) -> Engine:
    """Return the engine, not started. Raises Misconfigured. Only the modules that it needs are imported."""
    match settings.mode:
        case "ZOOKEEPER":
            from .zookeeper import ZookeeperEngine

            return ZookeeperEngine(settings)
        case "FILESYSTEM":
            from .filesystem import FilesystemEngine

            return FilesystemEngine(settings)
        case "NONE":
            from .none import NoneEngine

            return NoneEngine(settings)
        case "CUSTOM":
            return _custom(settings)


def _custom(settings: RecoverySettings) -> Engine:
    """Call spark.deploy.recoveryMode.factory, module:attribute, with the settings. Raises Misconfigured."""
    key = f"spark.deploy.recoveryMode.factory={settings.factory!r}"
    module, colon, attribute = settings.factory.partition(":")
    if not colon or not module or not attribute:
        raise Misconfigured(f"{key}: recoveryMode CUSTOM needs a Python import path, module:attribute")
    try:
        maker = getattr(importlib.import_module(module), attribute)
        engine = maker(settings)
    except Misconfigured:
        raise
    except Exception as error:
        raise Misconfigured(f"{key}: {type(error).__name__}: {error}") from error
    if not isinstance(engine, Engine):
        raise Misconfigured(f"{key} made a {type(engine).__name__}, which is no sparkd.coordination.api.Engine")
    return engine
