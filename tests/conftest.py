"""Make the project's own code importable the two ways it is imported.

`import latchkeeper`, `import module_utils.x` as on a host or a controller, and `ansible.module_utils.x` as inside a
module, where Ansible's `module_utils` setting puts it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent

for folder in (ROOT / "plugins", ROOT / "daemons"):
    sys.path.insert(0, str(folder))
for folder in (ROOT / "plugins" / "module_utils", ROOT / "daemons"):
    ansible.module_utils.__path__.append(str(folder))
