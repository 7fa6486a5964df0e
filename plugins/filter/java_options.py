"""Filters that write Java options for Spark's launcher."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def java_options(properties: Mapping[str, Any]) -> str:
    """Return ``-Dkey=value ...``, quoted as Spark's launcher reads it (CommandBuilderUtils.parseOptionString).

    The launcher knows single quotes, double quotes and backslashes the way a shell does, so a shell's quoting is right for
    it. Booleans are written as Java reads them.
    """
    words = []
    for key, value in properties.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        words.append(shlex.quote(f"-D{key}={text}"))
    return " ".join(words)


def java_argument_file(properties: Mapping[str, Any]) -> str:
    """Return one quoted ``-Dkey=value`` a line, as the java launcher reads an ``@file`` (its manual: java Command-Line Argument Files)."""
    lines = []
    for key, value in properties.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        option = f"-D{key}={text}"
        for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
            option = option.replace(plain, escaped)
        lines.append(f'"{option}"\n')
    return "".join(lines)


def property_line(value: Any) -> str:
    """Return a value as spark-defaults.conf (java.util.Properties) reads it: backslashes doubled, newlines escaped."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def spark_properties(properties: Mapping[str, Any]) -> str:
    """Return the text of a properties file."""
    return "".join(f"{key} {property_line(value)}\n" for key, value in properties.items())


class FilterModule:
    """The filters, by the names templates use."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {
            "java_argument_file": java_argument_file,
            "java_options": java_options,
            "property_line": property_line,
            "spark_properties": spark_properties,
        }
