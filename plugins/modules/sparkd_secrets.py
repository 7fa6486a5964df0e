#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""Read the secrets of sparkd that a host has."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: sparkd_secrets
short_description: Read the secrets of sparkd that a host has
description:
  - Returns what is in C(cluster.secret), C(rest.key) and C(zookeeper.secret) of a directory; nothing for those that are not there.
  - Call it with C(no_log=true).
options:
  directory:
    description: Where they are.
    type: path
    required: true
author: [spark-ha]
"""

EXAMPLES = r"""
- name: Read the secrets
  sparkd_secrets:
    directory: /var/lib/spark/secrets
  register: __have
  no_log: true
"""

RETURN = r"""
secrets:
  description: C(cluster), C(rest) and C(zookeeper), those that are there.
  returned: success
  type: dict
"""

FILES = {"cluster": "cluster.secret", "rest": "rest.key", "zookeeper": "zookeeper.secret"}
#: No secret is longer.
LIMIT = 4096


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"directory": {"type": "path", "required": True}}, supports_check_mode=True)
    found = {}
    for name, file_name in FILES.items():
        path = Path(module.params["directory"], file_name)
        try:
            with path.open("rb") as file:
                value = file.read(LIMIT).decode("ascii").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            module.fail_json(msg=f"{path} cannot be read as a secret: {error}; remove it to have another one made")
        if value:
            found[name] = value
    module.exit_json(changed=False, secrets=found)


if __name__ == "__main__":
    main()
