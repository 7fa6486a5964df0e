#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Image of the lab's hosts."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab_podman import LABEL_IMAGE, LabError, Podman, directory_digest, fingerprint

DOCUMENTATION = r"""
module: lab_image
short_description: Build the image of lab hosts from a distribution's mirror
description:
  - Makes a minimal base with mmdebstrap, imports it into podman and applies a Containerfile. Needs no image registry and no OCI runtime.
  - The tag contains a hash of everything that decides the content, so it is built only when that changed. Several calls at once build once.
author: spark-ha
options:
  distribution:
    description: Name of the distribution, as the first part of the tag.
    type: str
    required: true
  suite:
    description: The distribution's suite, as mmdebstrap knows it.
    type: str
  mirror:
    description: Mirror of the distribution; empty takes the one that mmdebstrap knows.
    type: str
    default: ""
  packages:
    description: Packages of the base.
    type: list
    elements: str
    default: []
  context:
    description: Directory with the Containerfile and its files.
    type: path
  state:
    description: V(absent) removes every image that this module made, of any distribution.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Build the image
  lab_image:
    distribution: debian-12
    suite: bookworm
    packages: [systemd, openssh-server]
    context: "{{ role_path }}/files/image"
"""

RETURN = r"""
image:
  description: Name and tag of the image.
  type: str
  returned: present
"""

REPOSITORY = "localhost/spark-ha-host"


def build(module: AnsibleModule, podman: Podman, image: str) -> None:
    """Build the image; raises LabError."""
    p = module.params
    with tempfile.TemporaryDirectory(prefix="spark-ha-image-", dir="/var/tmp") as scratch:
        base = Path(scratch) / "base.tar"
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(p['packages'])}", p["suite"], str(base)]
        command += [p["mirror"]] if p["mirror"] else []
        code, out, err = module.run_command(command)
        if code:
            lines = [line for line in (err or out).splitlines() if line.startswith("E:")] or (err or out).splitlines()
            raise LabError(
                f"lab_distribution={p['distribution']}: mmdebstrap failed: {' '.join(lines[-3:])}. "
                f"Is the mirror reachable? Another one: lab_debian_mirror (now {p['mirror'] or 'mmdebstrap chooses'})"
            )
        base_image = f"{REPOSITORY}-base:{image.rsplit(':', 1)[1]}"
        podman("import", str(base), base_image, what="importing the base image")
        podman(
            "build", "--isolation=chroot", "--network=host", "--pull=never", "--squash-all",
            "--label", f"{LABEL_IMAGE}={p['distribution']}", "--build-arg", f"BASE={base_image}", "--tag", image, p["context"],
            what="building the image of the lab's hosts",
        )  # fmt: skip
        podman("rmi", base_image)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "distribution": {"type": "str", "required": True},
            "suite": {"type": "str"},
            "mirror": {"type": "str", "default": ""},
            "packages": {"type": "list", "elements": "str", "default": []},
            "context": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["suite", "context"])],
        supports_check_mode=True,
    )
    p = module.params
    podman = Podman(lambda argv: module.run_command(argv))
    try:
        if p["state"] == "absent":
            found = sorted(set(podman("images", "--quiet", "--filter", f"label={LABEL_IMAGE}").split()))
            if found and not module.check_mode:
                podman("rmi", "--force", *found)
            module.exit_json(changed=bool(found))
        tag = fingerprint(p["suite"], p["mirror"], sorted(p["packages"]), directory_digest(Path(p["context"])))
        image = f"{REPOSITORY}:{p['distribution']}-{tag}"
        if podman.ok("image", "exists", image):
            module.exit_json(changed=False, image=image)
        if module.check_mode:
            module.exit_json(changed=True, image=image)
        lock = Path(f"/run/lock/spark-ha-image-{p['distribution']}")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            changed = not podman.ok("image", "exists", image)
            if changed:
                build(module, podman, image)
        module.exit_json(changed=changed, image=image)
    except LabError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
