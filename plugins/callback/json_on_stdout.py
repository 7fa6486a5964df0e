"""With `-e status_format=json` standard output carries the JSON document and nothing else; what Ansible says goes to standard error.

So `ansible-playbook playbooks/status.yml -e status_format=json | jq .leader` works.
"""

from __future__ import annotations

import sys
from typing import Any

from ansible import context
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.callback import CallbackBase
from ansible.utils.vars import load_extra_vars

DOCUMENTATION = r"""
name: json_on_stdout
type: aggregate
short_description: Leave standard output to the JSON document of the playbook status
description:
  - Does nothing unless the extra variable status_format is json.
requirements:
  - named in callbacks_enabled of ansible.cfg
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Prints RV(stdout_document) of a result."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "json_on_stdout"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._stdout: Any = None
        if context.CLIARGS.get("extra_vars") and load_extra_vars(DataLoader()).get("status_format") == "json":
            self._stdout, sys.stdout = sys.stdout, sys.stderr

    def _print(self, result: Any) -> None:
        document = result.result.get("stdout_document")
        if self._stdout and document:
            print(document, file=self._stdout, flush=True)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Print the document of a healthy cluster."""
        self._print(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ARG002 - Ansible's signature
        """Print the document of a cluster that is not."""
        self._print(result)
