#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""Pack the project's own tools for the hosts into one archive, once, on the controller."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from ansible.module_utils.artifacts import ArtifactError, cache_lock, digest_of
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.tools_layout import BundleError, Wheel, pack

DOCUMENTATION = r"""
module: tools_bundle
short_description: Pack the project's own tools for the hosts into one archive
description:
  - Writes a tar with the package I(package), an entry command for it and the packages of one pure Python wheel to a cache.
  - The same input gives the same bytes, so a second run finds the work done.
  - The wheel comes from the cache or, with the pinned digest, from where pip finds packages.
  - Run it with C(delegate_to=localhost) and C(run_once=true).
options:
  package:
    description: Directory of the package, for instance daemons/latchkeeper.
    type: path
    required: true
  wheel:
    description: File name of the wheel.
    type: str
    required: true
  wheel_sha256:
    description: Its digest.
    type: str
    required: true
  cache_dir:
    description: Directory of the cache; made when missing.
    type: path
    required: true
author: [spark-ha]
"""

EXAMPLES = r"""
- name: Pack the latchkeeper
  delegate_to: localhost
  run_once: true
  tools_bundle:
    package: "{{ cluster_daemons_src }}/latchkeeper"
    wheel: kazoo-2.11.0-py2.py3-none-any.whl
    wheel_sha256: aa6be17159540dae4087661b8d4e24c7b58d4dc26170a2d5b8468b06712d84a9
    cache_dir: "{{ cluster_cache_dir }}"
"""

RETURN = r"""
name:
  description: File name of the archive; it carries the start of its digest.
  returned: success
  type: str
path:
  description: The archive.
  returned: success
  type: str
sha256:
  description: Its digest.
  returned: success
  type: str
"""

PIP_TIMEOUT_S = 300


def fetch_wheel(wheel: Wheel, into: Path) -> None:
    """Download the wheel with pip, which checks the digest. Raises BundleError."""
    help_text = f"or put {wheel.file_name} (sha256 {wheel.sha256}) there by hand: {into / wheel.file_name}"
    with tempfile.TemporaryDirectory(dir=into, prefix=".download-") as scratch:
        requirement = Path(scratch, "requirements.txt")
        requirement.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--quiet"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", scratch, "--requirement", str(requirement)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise BundleError(f"pip did not fetch {wheel.name} {wheel.version} within {PIP_TIMEOUT_S} s; try again, {help_text}") from None
        found = Path(scratch, wheel.file_name)
        if done.returncode != 0 or not found.is_file():
            why = [line for line in done.stderr.splitlines() if line.strip()]
            reason = why[-1].removeprefix("ERROR: ") if why else f"no {wheel.file_name}"
            raise BundleError(f"pip could not fetch {wheel.name} {wheel.version}: {reason}; see to pip's configuration, {help_text}")
        found.replace(into / wheel.file_name)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "package": {"type": "path", "required": True},
            "wheel": {"type": "str", "required": True},
            "wheel_sha256": {"type": "str", "required": True},
            "cache_dir": {"type": "path", "required": True},
        },
        supports_check_mode=True,  # the cache is no host: filling it is no change there
    )
    cache = Path(module.params["cache_dir"])
    try:
        wheel = Wheel(module.params["wheel"], module.params["wheel_sha256"])
        wheels = cache / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        with cache_lock(cache, "spark-ha-tools"):
            file = wheels / wheel.file_name
            if file.exists() and digest_of(file) != wheel.sha256:
                file.unlink()
            if not file.exists():
                fetch_wheel(wheel, wheels)
            bundle = pack(Path(module.params["package"]), file)
            path = cache / bundle.name
            changed = not path.exists() or digest_of(path) != bundle.sha256
            if changed:
                part = path.with_name(f"{path.name}.part-0")
                part.write_bytes(bundle.content)
                part.replace(path)
    except (ArtifactError, BundleError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, name=bundle.name, path=str(path), sha256=bundle.sha256)


if __name__ == "__main__":
    main()
