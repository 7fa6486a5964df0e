#!/usr/bin/python
"""Documentation of the action plugin wordcount_check; it runs on the controller, nothing of it on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wordcount_check
short_description: Compare Spark's word count with an independent one
description:
  - Runs on the controller and counts there with plain Python. Fails with the first words that differ.
options:
  text:
    description: The text, a file on the controller.
    type: path
    required: true
  result:
    description: What examples/wordcount/wordcount.py wrote.
    type: dict
    required: true
  top:
    description: How many of the most frequent words are printed.
    type: int
    default: 10
  hosts_min:
    description: On how many hosts tasks must have run.
    type: int
    default: 1
author: spark-ha
"""

EXAMPLES = r"""
- name: Compare
  wordcount_check:
    text: examples/wordcount/declaration_of_independence.txt
    result: "{{ __wordcount_result.content | b64decode | from_json }}"
"""

RETURN = r"""
hosts:
  description: Hosts on which tasks ran.
  type: list
  elements: str
  returned: success
words:
  description: Number of words.
  type: int
  returned: success
"""
