#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""Have one download in the controller's cache, verified."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.artifacts import ArtifactError, fetch_into_cache, sealed
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: artifact_fetch
short_description: Have one download in the controller's cache, verified
description:
  - Fetches a file from the first URL that gives the expected one; a file with a bad checksum is not kept. Nothing is done when the
    cache has it. Run it with C(delegate_to=localhost) and C(run_once=true); the role C(artifact) then brings it to the hosts.
options:
  urls:
    description: Where the file may be, tried in order; the last one is the origin. All end with the same file name.
    type: list
    elements: str
    required: true
  checksum:
    description: Expected checksum, V(sha256:...) or V(sha512:...); empty takes the file named by I(checksum_suffix).
    type: str
    default: ''
  checksum_suffix:
    description: Ending of the checksum file beside each URL, like V(.sha512); it is read from the origin first.
    type: str
    default: ''
  cache_dir:
    description: Directory of the cache; made when missing.
    type: path
    required: true
  timeout:
    description: Seconds that a mirror may stay silent.
    type: int
    default: 60
author: [spark-ha]
"""

EXAMPLES = r"""
- name: Download Scala once, on the controller
  artifact_fetch:
    urls: [https://github.com/scala/scala/releases/download/v2.13.18/scala-2.13.18.tgz]
    checksum: "{{ scala_checksum }}"
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
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "urls": {"type": "list", "elements": "str", "required": True},
            "checksum": {"type": "str", "default": ""},
            "checksum_suffix": {"type": "str", "default": ""},
            "cache_dir": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        if not params["urls"]:
            raise ArtifactError("No URL is given: the list of mirrors is empty.")
        cache = Path(params["cache_dir"]).expanduser()
        path = cache / params["urls"][0].rsplit("/", 1)[-1]
        if module.check_mode and not sealed(path):
            module.exit_json(changed=True, name=path.name, path=str(path), msg=f"would download {params['urls'][0]}")
        changed, path, sha256 = fetch_into_cache(cache, params["urls"], params["checksum"], params["checksum_suffix"], params["timeout"])
        module.exit_json(changed=changed, name=path.name, path=str(path), sha256=sha256)
    except (ArtifactError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
