#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""Documentation of the action plugin of the same name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_packages
short_description: Install packages of the distribution that are missing
description:
  - Asks dpkg first. When all packages are installed nothing else happens, the package lists are not fetched and no mirror is needed.
  - Else runs M(ansible.builtin.apt), without recommended packages.
options:
  name:
    description: Names of the packages.
    type: list
    elements: str
    required: true
  cache_valid_time:
    description: How old the package lists may be, in seconds, before they are fetched again to install something.
    type: int
    default: 86400
author: [spark-ha]
attributes:
  check_mode:
    description: Says whether packages are missing.
    support: full
"""

EXAMPLES = r"""
- name: Install the ssh client
  become: true
  host_packages:
    name: openssh-client
"""

RETURN = r"""
changed:
  description: Whether packages were missing.
  type: bool
  returned: always
"""
