#!/usr/bin/python
"""Documentation of the action plugin drill_plan; it runs on the controller, nothing of it on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_plan
short_description: Decide whether a drill may run, and on which hosts
description:
  - Runs on the controller. Refuses an unknown drill, a cluster that is not the lab and was not confirmed by name, one that is not
    healthy, has too few masters, lists drivers that would be lost, or has no core free.
options:
  drill:
    description: Name of the drill.
    type: str
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  lab:
    description: Whether the inventory is the lab.
    type: bool
    required: true
  confirm:
    description: The cluster's name, said by who runs the drill.
    type: str
    default: ""
  accept_driver_loss:
    description: Run although active drivers would be lost.
    type: bool
    default: false
  planned:
    description: A planned change of leader and no damage; it needs a leader and a standby, not a healthy cluster, and runs no load.
    type: bool
    default: false
  report:
    description: Report of cluster_report; without it only the confirmation is looked at.
    type: dict
author: spark-ha
"""

EXAMPLES = r"""
- name: Decide
  drill_plan:
    drill: leader_kill
    cluster: lab
    lab: true
    report: "{{ __status_report.report }}"
  run_once: true
"""

RETURN = r"""
plan:
  description: drill, victim, seat (the host of observer and load), standbys, workers, load_cores.
  type: dict
  returned: always
before:
  description: The report it was decided by.
  type: dict
  returned: always
stamp:
  description: When it was decided, for the name of the report.
  type: str
  returned: always
"""
