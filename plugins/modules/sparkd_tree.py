#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""Make the archives of sparkd for each kind of host, once, on the controller."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ansible.module_utils.artifacts import ArtifactError, cache_lock, digest_of, seal, sealed
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sparkd_tree import (
    Pin,
    Target,
    TreeError,
    check_complete,
    check_wheels,
    entry_point,
    pack,
    parse_lock,
    source_digest,
    source_files,
    wheel_files,
)

DOCUMENTATION = r"""
module: sparkd_tree
short_description: Make the archives of sparkd for each kind of host
description:
  - Fetches the wheels that the lock file pins, for each kind of host (with pip, by digest), builds the wheel of I(package) from a copy
    of its source, and packs both with an entry command into one tar per kind.
  - The same input gives the same bytes, so a second run finds the work done.
  - Run it with C(delegate_to=localhost) and C(run_once=true).
options:
  package:
    description: Directory of the package, with its pyproject.toml and the file requirements.lock.
    type: path
    required: true
  targets:
    description: Kinds of hosts, like V(3.11-x86_64).
    type: list
    elements: str
    required: true
  python:
    description: The hosts' Python, for the first line of the entry command.
    type: path
    default: /usr/bin/python3
  cache_dir:
    description: Directory of the cache; made when missing.
    type: path
    required: true
author: [spark-ha]
"""

EXAMPLES = r"""
- name: Make the archives of sparkd
  delegate_to: localhost
  run_once: true
  sparkd_tree:
    package: "{{ cluster_daemons_src }}/sparkd"
    targets: [3.11-x86_64, 3.13-x86_64]
    cache_dir: "{{ cluster_cache_dir }}"
"""

RETURN = r"""
trees:
  description: Target -> C(name), C(path) and C(sha256) of its archive.
  returned: success
  type: dict
"""

PIP_TIMEOUT_S = 600
#: Raised when the way an archive is made changes: archives made in another way are not taken from the cache.
RECIPE = "1"


def pip(what: str, arguments: list[str], help_text: str, **environment: str) -> None:
    """Run the controller's pip. Raises TreeError with its last words."""
    command = [sys.executable, "-m", "pip", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired:
        raise TreeError(f"pip did not {what} within {PIP_TIMEOUT_S} s; try again, {help_text}") from None
    if done.returncode != 0:
        why = [line for line in done.stderr.splitlines() if line.strip()]
        reason = why[-1].removeprefix("ERROR: ") if why else f"exit code {done.returncode}"
        raise TreeError(f"pip could not {what}: {reason}; see to pip's configuration, {help_text}")


def pinned_wheels(target: Target, lock: Path, pins: list[Pin], cache: Path) -> list[Path]:
    """Return the wheels that the lock file pins for a target, fetched if the cache has them not. Raises TreeError, OSError."""
    house = cache / "wheels" / str(target)
    known = {digest for pin in pins for digest in pin.digests}
    house.mkdir(parents=True, exist_ok=True)

    def there() -> dict[str, str]:
        return {path.name: digest for path in sorted(house.glob("*.whl")) if (digest := digest_of(path)) in known}

    found = there()
    try:
        check_wheels(target, pins, found)
    except TreeError:
        options = ["--no-deps", "--require-hashes", "--disable-pip-version-check", "--quiet", f"--find-links={house}"]
        with tempfile.TemporaryDirectory(dir=house, prefix=".download-") as scratch:
            pip(
                f"fetch the wheels for {target}",
                ["download", *options, *target.pip_options(), f"--dest={scratch}", f"--requirement={lock}"],
                f"or put the wheels of {lock.name} there by hand: {house}",
            )
            for path in Path(scratch).glob("*.whl"):
                path.replace(house / path.name)
        found = there()
        check_wheels(target, pins, found)
    return [house / name for name in found]


def own_wheel(source: dict[str, bytes], cache: Path) -> Path:
    """Return the wheel of the package itself, built from a copy: a build must leave nothing in the checkout. Raises TreeError, OSError."""
    house = cache / "wheels" / f"sparkd-{source_digest(source)[:16]}"
    house.mkdir(parents=True, exist_ok=True)
    built = sorted(house.glob("sparkd-*.whl"))
    if built and sealed(built[0]):
        return built[0]
    with tempfile.TemporaryDirectory(dir=house, prefix=".build-") as scratch:
        copy = Path(scratch, "sparkd")
        for name, content in source.items():
            path = copy / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        dest = Path(scratch, "dist")
        options = ["--no-deps", "--disable-pip-version-check", "--quiet", f"--wheel-dir={dest}"]
        # The oldest time that a zip file can hold.
        pip("build sparkd", ["wheel", *options, str(copy)], "a build needs setuptools from there", SOURCE_DATE_EPOCH="315532800")
        wheel = next(dest.glob("sparkd-*.whl"))
        final = house / wheel.name
        wheel.replace(final)
    seal(final, digest_of(final), {})
    return final


def make(package: Path, targets: list[Target], python: str, cache: Path) -> tuple[bool, dict[str, dict[str, str]]]:
    """Return whether anything had to be made, and the archives by target. Raises TreeError, ArtifactError, OSError."""
    lock = package / "requirements.lock"
    text = lock.read_text(encoding="utf-8")
    pins = parse_lock(text)
    source = source_files(package)
    recipe = source_digest({**source, "python": python.encode(), "recipe": RECIPE.encode()})
    changed = False
    trees = {}
    for target in targets:
        index = cache / f"sparkd-{target}-{recipe[:16]}.name"
        path = cache / index.read_text(encoding="utf-8").strip() if index.exists() else None
        if path is None or not (found := sealed(path)):
            changed = True
            wheel = own_wheel(source, cache)
            own = wheel_files(wheel)
            check_complete(source, own, "sparkd")
            files = [own, *(wheel_files(item) for item in pinned_wheels(target, lock, pins, cache))]
            tree = pack(target, wheel.name.split("-")[1], entry_point(own, "sparkd"), files, python)
            path = cache / tree.name
            part = cache / f"sparkd.{os.getpid()}.part-0"  # cache_lock removes it after a run that was cut off
            part.write_bytes(tree.content)
            part.replace(path)
            seal(path, tree.sha256, {})
            index.write_text(f"{path.name}\n", encoding="utf-8")
            found = (tree.sha256, {})
        trees[str(target)] = {"name": path.name, "path": str(path), "sha256": found[0]}
    return changed, trees


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "package": {"type": "path", "required": True},
            "targets": {"type": "list", "elements": "str", "required": True},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "cache_dir": {"type": "path", "required": True},
        },
        supports_check_mode=True,  # the cache is no host: filling it is no change there
    )
    params = module.params
    cache = Path(params["cache_dir"])
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with cache_lock(cache, "sparkd"):
            changed, trees = make(Path(params["package"]), [Target.parse(text) for text in params["targets"]], params["python"], cache)
    except (ArtifactError, TreeError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, trees=trees)


if __name__ == "__main__":
    main()
