#!/usr/bin/python
"""Documentation of the action plugin drill_judge; it runs on the controller, nothing of it on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_judge
short_description: Judge a drill, write its report and print the figures beside their bounds
description:
  - Runs on the controller over the files that observer and load wrote. Fails when a bound is missed or the drill was aborted.
options:
  plan:
    description: Plan of drill_plan.
    type: dict
    required: true
  before:
    description: Report on the cluster before the drill.
    type: dict
    required: true
  bounds:
    description: Bounds by name, in seconds.
    type: dict
    required: true
  fault:
    description: What was done, on which host, when.
    type: dict
    default: {}
  aborted_because:
    description: Why the drill did not come to its end; empty when it did.
    type: str
    default: ""
  directory:
    description: Directory on the controller with the recorded files; gets report.json.
    type: path
    required: true
author: spark-ha
"""

EXAMPLES = r"""
- name: Judge
  drill_judge:
    plan: "{{ __drill_plan.plan }}"
    before: "{{ __drill_plan.before }}"
    bounds: {max_failover_s: 5}
    directory: reports/leader_kill-20300101T000000
"""

RETURN = r"""
report:
  description: The report; docs/drills.md describes its schema.
  type: dict
  returned: success
file:
  description: Path of report.json.
  type: str
  returned: success
"""
