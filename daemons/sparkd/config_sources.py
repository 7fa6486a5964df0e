"""What was said where: every source of configuration read, each key parsed, every mistake collected. `config` makes settings of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import config_files as files
from . import config_values as v
from .config_keys import BY_NAME, OURS, Key, Role, find, of_role

MASKED = "(secret)"


class ConfigError(Exception):
    """The configuration cannot be used; one line per problem, each with the key, the value, where it came from and what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key's value. text: as it was written; source: where, "default" when nowhere."""

    key: Key
    text: str
    value: Any
    source: str

    @property
    def given(self) -> bool:
        """It was written somewhere."""
        return self.source != "default"

    @property
    def effective(self) -> str:
        """What counts, for people; secrets masked."""
        if self.key.secret and self.text:
            return MASKED
        return self.text or (self.key.shown if not self.given else "")


@dataclass(slots=True)
class Found:
    """All that was said, before it means anything."""

    role: Role
    settings: dict[str, Setting]
    environ: dict[str, str]
    arguments: list[str]
    notes: list[str]
    problems: list[str] = field(default_factory=list)

    def value(self, name: str) -> Any:
        """Return a key's parsed value; None when it has neither a value nor a default."""
        return self.settings[name].value

    def given(self, name: str) -> bool:
        """The key was written somewhere."""
        return self.settings[name].given

    def wrong(self, name: str, allowed: str) -> None:
        """Note a problem of a key that parsed but cannot be used."""
        setting = self.settings[name]
        self.problems.append(problem(name, setting.effective, setting.source, allowed))

    def check(self) -> None:
        """Raise ConfigError when there is a problem."""
        if self.problems:
            raise ConfigError(self.problems)

    def sources(self) -> dict[str, str]:
        """Return key -> where it came from."""
        return {name: setting.source for name, setting in self.settings.items()}


def problem(name: str, text: str, source: str, allowed: str) -> str:
    """Return the line that tells of a value that cannot be had."""
    return f"{name} = {text!r} (from {source}): {allowed}"


def _flags(role: Role, argv: Sequence[str]) -> tuple[dict[str, tuple[str, str]], str, list[str]]:
    """Return key -> (text, flag), the properties file, and what is no flag. Raises ConfigError."""
    known = {flag: key.name for key in of_role(role) for flag in key.flags}
    found: dict[str, tuple[str, str]] = {}
    properties, rest = "", []
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if not word.startswith("-"):
            rest.append(word)
            continue
        if flag not in known and flag != "--properties-file":
            raise ConfigError([f"{flag}: sparkd {role} has no such flag; it has {', '.join([*known, '--properties-file'])}"])
        if not equals:
            try:
                value = next(words)
            except StopIteration:
                raise ConfigError([f"{flag}: a value must follow"]) from None
        if flag == "--properties-file":
            properties = value
        else:
            found[known[flag]] = (value, f"flag {flag}")
    return found, properties, rest


def property_file(given: str, environ: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return spark.* of a properties file, spark-defaults.conf when none is given, and its path. Raises files.FileProblem."""
    folder = files.conf_dir(environ)
    path = Path(given) if given else (folder / "spark-defaults.conf" if folder else None)
    if path is None or (not given and not path.is_file()):
        return {}, ""
    try:
        found = files.properties(files.read(path))
    except ValueError as error:
        raise files.FileProblem(f"{path}: {error}") from None
    return {key: value for key, value in found.items() if key.startswith("spark.")}, str(path)


Layer = Mapping[str, tuple[str, str]]  # key, as the table calls it, or an unknown property -> text and source


def _named(properties: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Call old names by the present ones; a present name in the same place counts first."""
    found: dict[str, tuple[str, str]] = {}
    for name, (text, source) in properties.items():
        key = BY_NAME.get(name)
        if key and name != key.name:
            found.setdefault(key.name, (text, f"{source}, under its old name {name}"))
        else:
            found[name] = (text, source)
    return found


def _substitute(text: str, layers: Sequence[Layer], environ: Mapping[str, str]) -> str:
    """Replace ${env:NAME} and ${spark.key}; what is not there stays as it is (org.apache.spark.internal.config.ConfigReader)."""

    def one(match: re.Match[str]) -> str:
        prefix, name = match[1] or "", match[2]
        if prefix == "env:":
            return environ.get(name, match[0])
        return next((layer[name][0] for layer in layers if name in layer), match[0]) if not prefix else match[0]

    return re.sub(r"\$\{(env:|system:)?([^}]*)\}", one, text)


def gather(role: Role, argv: Sequence[str], environ: Mapping[str, str]) -> Found:
    """Read all sources and parse each key of this daemon; problems are collected. Raises ConfigError for what cannot be read at all."""
    flags, given, arguments = _flags(role, argv)
    notes: list[str] = []
    try:
        env = files.environment(environ)
        layers: list[Layer] = [flags]
        for name in (f"SPARK_{role.upper()}_OPTS", "SPARK_DAEMON_JAVA_OPTS"):
            properties, others = files.java_options(env.get(name, ""), name)
            layers.append(_named(properties))
            notes += [f"{option.split('=')[0]} in {name}: not applicable, the daemons are Python" for option in others]
        layers.append({key.name: (env[key.variable()], "environment") for key in of_role(role) if env.get(key.variable())})
        defaults, where = property_file(given, env)
        layers.append(_named({key: (text, where) for key, text in defaults.items()}))
    except files.FileProblem as error:
        raise ConfigError([str(error)]) from None
    found = Found(role, {}, env, arguments, notes)
    for key in of_role(role):
        if key.name.endswith("*"):
            continue
        text, source = next((layer[key.name] for layer in layers if key.name in layer), (key.default, "default"))
        if source != "default":
            text = _substitute(text, layers, env)
        _take(found, key, key.name, text, source)
    names = {name: source for layer in reversed(layers) for name, (_, source) in layer.items() if name not in found.settings}
    for name, source in sorted(names.items()):
        _other(found, name, next(layer[name][0] for layer in layers if name in layer), source)
    if not role_takes_arguments(role) and arguments:
        found.problems.append(f"{arguments[0]!r}: sparkd {role} takes flags only")
    return found


def role_takes_arguments(role: Role) -> bool:
    """A worker is told its masters."""
    return role == "worker"


def _take(found: Found, key: Key, name: str, text: str, source: str) -> None:
    """Parse one value and judge whether it can be had."""
    value: object = None
    if key.state == "refused":
        if source != "default" and text.strip().lower() not in key.harmless:
            found.problems.append(problem(name, text, source, f"refused: {key.why}"))
    elif name == "spark.deploy.recoveryMode" and text.strip().upper() == "ROCKSDB":
        fix = "use FILESYSTEM with the same spark.deploy.recoveryDirectory, or ZOOKEEPER for masters on several hosts"
        found.problems.append(problem(name, text, source, f"refused, sparkd stores no RocksDB: {fix}"))
    elif key.state == "honoured" and (text.strip() or source != "default"):
        if not text.strip() and key.parse not in (v.line, v.words, v.regexes):
            text = key.default  # an empty variable of the environment says nothing
        if text.strip():
            try:
                value = key.parse(text)
            except ValueError as error:
                shown = MASKED if key.secret else text
                found.problems.append(problem(name, shown, source, f"not valid; allowed: {error}"))
    found.settings[name] = Setting(key, text, value, source)


def _other(found: Found, name: str, text: str, source: str) -> None:
    """Judge a property that is no plain key of this daemon: a pattern's, the other daemon's, an application's, or a mistake."""
    key = find(name)
    if key is not None:
        if found.role in key.roles:
            _take(found, key, name, text, source)
    elif name.startswith(OURS):
        from difflib import get_close_matches

        near = get_close_matches(name, BY_NAME, 1)
        hint = f"did you mean {near[0]}?" if near else "docs/configuration.md and `sparkd config` list all keys"
        found.problems.append(problem(name, text, source, f"no such key; {hint}"))
