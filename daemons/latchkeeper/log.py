"""One line of JSON per event; the journal adds time and unit."""

from __future__ import annotations

import json
import sys


def say(event: str, **values: object) -> None:
    """Write one event to standard output; a closed output is no reason to fail."""
    try:
        print(json.dumps({"latchkeeper": event, **values}, default=str), flush=True)
    except (OSError, ValueError):
        sys.stdout = None
