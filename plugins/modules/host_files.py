#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""Put directories, files and links on a host in one call."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.files_plan import PlanError, apply, wanted_from

DOCUMENTATION = r"""
module: host_files
short_description: Put directories, files and links on a host in one call
description:
  - Brings every listed path to its state, in order, each atomically. One task instead of one per file.
  - Templates are rendered on the controller, with the C(template) lookup.
options:
  files:
    description: What to put where.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      state:
        description: What the path should be.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: Content of a file.
        type: str
      secret_content:
        description: Content of a file that must appear in no log and no diff.
        type: str
      target:
        description: Target of a link.
        type: str
      owner:
        description: Owner.
        type: str
        default: root
      group:
        description: Group.
        type: str
        default: root
      mode:
        description: Octal mode as a string; 0644 for files and 0755 for directories when not given.
        type: str
      validate:
        description: Command that must succeed before a file gets its name; C(%s) is the new content's path.
        type: str
author: [spark-ha]
"""

EXAMPLES = r"""
- name: Put the profile and the link of the version in use
  host_files:
    files:
      - path: /etc/profile.d/spark-ha.sh
        content: "{{ lookup('ansible.builtin.template', cluster_templates ~ '/profile.sh.j2') }}"
      - path: /opt/spark/current
        state: link
        target: /opt/spark/spark-4.3.0
"""

RETURN = r"""
paths:
  description: The paths that changed, or would.
  returned: success
  type: list
  elements: str
"""


class QuietModule(AnsibleModule):  # type: ignore[misc]
    """Writes no line into the host's journal with what it was called with.

    That would be whole files, with secrets that no masking finds once newlines are escaped. The argument no_log of AnsibleModule does not
    prevent it: what the task says replaces it.
    """

    def _log_invocation(self) -> None:
        return


def main() -> None:
    """Run the module."""
    text = {"type": "str"}
    suboptions = {
        "path": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
        "content": text,
        "secret_content": {"type": "str", "no_log": True},
        "target": text,
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": text,
        "validate": text,
    }
    module = QuietModule(
        argument_spec={"files": {"type": "list", "elements": "dict", "required": True, "options": suboptions}},
        supports_check_mode=True,
    )
    try:
        outcome = apply([wanted_from(entry) for entry in module.params["files"]], module.check_mode)
    except (PlanError, OSError) as error:
        module.fail_json(msg=str(error))
    result = {"changed": bool(outcome.changed), "paths": outcome.changed}
    if module._diff:
        result["diff"] = outcome.diff
    # The arguments hold every file: without this they would all be printed again.
    module.exit_json(**result, invocation={})


if __name__ == "__main__":
    main()
