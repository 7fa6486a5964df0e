#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Download Apache's ZooKeeper tarball once, on the controller."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.artifacts import (
    ArtifactError,
    cache_lock,
    digest_of,
    fetch_text,
    fetch_verified,
    parse_checksum,
    parse_checksum_file,
    seal,
    sealed,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: zookeeper_artifact
short_description: Download Apache's ZooKeeper tarball once, on the controller
description:
  - Fetches C(zookeeper/zookeeper-VERSION/apache-zookeeper-VERSION-bin.tar.gz) from the first mirror that gives the expected file,
    verified by its C(.sha512) or by I(checksum), into a cache. A file with a bad checksum is not kept.
  - Run it with C(delegate_to=localhost) and C(run_once=true).
options:
  version:
    description: Version of ZooKeeper.
    type: str
    required: true
  cache_dir:
    description: Directory of the cache; made when missing.
    type: path
    required: true
  mirrors:
    description: Base URLs, tried in order. The .sha512 file is read from the last one first, so that a mirror does not vouch for itself.
    type: list
    elements: str
    default: ['https://archive.apache.org/dist']
  checksum:
    description: Expected checksum, V(sha512:...) or V(sha256:...); empty takes the .sha512 file.
    type: str
    default: ''
  timeout:
    description: Seconds that a mirror may stay silent.
    type: int
    default: 60
author: [spark-ha]
attributes:
  check_mode:
    description: Says what would be downloaded.
    support: full
"""

EXAMPLES = r"""
- name: Download ZooKeeper once, on the controller
  zookeeper_artifact:
    version: 3.9.5
    cache_dir: ~/.cache/spark-ha
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
name:
  description: File name.
  returned: success
  type: str
path:
  description: The file on the controller.
  returned: success
  type: str
sha256:
  description: Its digest; missing in check mode when it is not in the cache yet.
  returned: success
  type: str
origin:
  description: Where it came from.
  returned: success
  type: str
"""


def prepare(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return name, path and sha256 of the file in the cache, downloaded when need be. Raises ArtifactError."""
    version, cache, mirrors = params["version"], Path(params["cache_dir"]).expanduser(), params["mirrors"]
    if not mirrors:
        raise ArtifactError("zookeeper_source is archive and zookeeper_mirrors is empty: give at least https://archive.apache.org/dist")
    name = f"apache-zookeeper-{version}-bin.tar.gz"
    urls = [f"{mirror.rstrip('/')}/zookeeper/zookeeper-{version}/{name}" for mirror in mirrors]
    path = cache / name
    # The mirrors are part of it: what one gave without a checksum of the user's does not stand for another.
    recipe = hashlib.sha256("\n".join([version, params["checksum"], *mirrors]).encode()).hexdigest()[:16]
    with cache_lock(cache, name):
        found = sealed(path)
        if found and found[1].get("recipe") == recipe:
            return {"changed": False, "name": name, "path": str(path), "sha256": found[0], "origin": found[1].get("origin", "")}
        if check_mode:
            return {"changed": True, "name": name, "path": str(path), "msg": f"would download {urls[0]}"}
        if params["checksum"]:
            checksum = parse_checksum(params["checksum"])
        else:
            text, _ = fetch_text([f"{url}.sha512" for url in reversed(urls)], timeout=min(15, params["timeout"]))
            checksum = parse_checksum_file(text, name)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as scratch:
            part = Path(scratch) / name
            origin = fetch_verified(urls, checksum, part, timeout=params["timeout"])
            sha256 = digest_of(part)
            part.replace(path)
        seal(path, sha256, {"origin": origin, "recipe": recipe})
    return {"changed": True, "name": name, "path": str(path), "sha256": sha256, "origin": origin}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "cache_dir": {"type": "path", "required": True},
            "mirrors": {"type": "list", "elements": "str", "default": ["https://archive.apache.org/dist"]},
            "checksum": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**prepare(module.params, module.check_mode))
    except (ArtifactError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
