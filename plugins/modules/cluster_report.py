#!/usr/bin/python
"""Documentation of the action plugin cluster_report; it runs on the controller, nothing of it on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_report
short_description: Judge the probes of all hosts, print a table or JSON, fail when the cluster is not healthy
description:
  - Runs on the controller. Reads what C(cluster_probe) registered as C(__status_probe) on every host; a host without it is lost.
options:
  cluster:
    description: Name, daemons, spark_version, recovery_mode, master_url, and the number of external endpoints.
    type: dict
    required: true
  format:
    description: What to print.
    type: str
    choices: [table, json, none]
    default: table
  file:
    description: File on the controller that gets the JSON as well.
    type: str
    default: ""
  wait_s:
    description: Seconds since O(started) during which an unhealthy cluster is looked at again.
    type: float
    default: 0
  started:
    description: RV(started) of the first look; 0 on the first look.
    type: float
    default: 0
  must_be_healthy:
    description: Fail when the cluster is not healthy.
    type: bool
    default: true
author: spark-ha
"""

EXAMPLES = r"""
- name: Judge what the hosts said
  cluster_report:
    cluster: {name: spark, daemons: apache, spark_version: 4.3.0, recovery_mode: ZOOKEEPER, master_url: "spark://h1:7077,h2:7077"}
  run_once: true
"""

RETURN = r"""
report:
  description: The report; docs/status.md describes its schema.
  type: dict
  returned: always
again:
  description: Whether there is time for another look.
  type: bool
  returned: always
started:
  description: When the first look began, seconds since the epoch.
  type: float
  returned: always
"""
