#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""Prepare Spark's distribution once, on the controller."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.artifacts import (
    ArtifactError,
    Checksum,
    cache_lock,
    digest_of,
    fetch_verified,
    origin_checksum,
    parse_checksum,
    seal,
    sealed,
    verify_file,
)
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.spark_layout import LAYOUT, repack, zookeeper_tar

DOCUMENTATION = r"""
module: spark_artifact
short_description: Prepare Spark's distribution once, on the controller
description:
  - Downloads (or takes) a distribution of Spark, verifies it, and writes it to a cache as one plain tar laid out as SPARK_HOME,
    together with the small tar of ZooKeeper's jars that Spark carries.
  - A second run finds the work done. A damaged cache is noticed and made again. Two runs at once wait for each other; an
    interrupted one leaves nothing under a final name.
  - Run it with C(delegate_to=localhost) and C(run_once=true).
options:
  version:
    description: Version of Spark.
    type: str
    required: true
  source:
    description: V(pypi) takes the pyspark package by pip, V(archive) Apache's tarball from I(mirrors), V(local) the file I(path).
    type: str
    choices: [pypi, archive, local]
    default: pypi
  cache_dir:
    description: Directory of the cache; made when missing.
    type: path
    required: true
  mirrors:
    description:
      - For V(archive), base URLs under which C(spark/spark-VERSION/) is found, tried in order.
      - The .sha512 file is read from the last one first, so that a mirror does not vouch for itself.
    type: list
    elements: str
    default: ['https://archive.apache.org/dist']
  checksum:
    description:
      - Expected checksum of the download, V(sha256:...) or V(sha512:...); V(pypi) needs a sha256.
      - Empty is allowed for V(archive) (the .sha512 file decides) and V(local) (nothing is checked).
    type: str
    default: ''
  path:
    description: The file for V(local), in either form.
    type: path
  timeout:
    description: Seconds that a mirror may stay silent.
    type: int
    default: 60
author: [spark-ha]
"""

EXAMPLES = r"""
- name: Prepare Spark once, on the controller
  spark_artifact:
    version: 4.3.0
    cache_dir: ~/.cache/spark-ha
    checksum: sha256:e8c517948eff7088a7aa07449aa8eafa4a15a8d50319de2525a6fd26622476c6
  delegate_to: localhost
  run_once: true
  register: spark_artifact
"""

RETURN = r"""
spark:
  description: The distribution. Its keys are name (file name), path (on the controller) and sha256.
  returned: success
  type: dict
zookeeper:
  description: ZooKeeper's jars from it, with the same keys.
  returned: success
  type: dict
zookeeper_version:
  description: Version of the ZooKeeper in Spark's jars.
  returned: success
  type: str
scala_version:
  description: Version of the Scala library in Spark's jars.
  returned: success
  type: str
py4j_version:
  description: Version of py4j.
  returned: success
  type: str
origin:
  description: Where the distribution came from.
  returned: success
  type: str
"""


def pip_download(version: str, checksum: Checksum | None, folder: Path) -> tuple[Path, str]:
    """Fetch the pyspark package with this Python's pip, so that the user's pip configuration (index, proxy, CA) holds.

    Raises ArtifactError with pip's last lines.
    """
    if checksum is None or checksum.algorithm != "sha256":
        raise ArtifactError(
            f"spark_source is pypi and spark_version {version} has no known sha256. Set spark_checksum: sha256:<digest>, as "
            f"the package index shows it for pyspark-{version}.tar.gz."
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"pyspark=={version} --hash=sha256:{checksum.digest}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "--no-input", "download", "--no-deps", "--no-binary", ":all:", "--require-hashes"),
        *("--progress-bar", "off", "--dest", str(folder), "--requirement", str(requirements)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("pyspark-*.tar.gz"))
    if done.returncode or not found:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise ArtifactError(f"pip could not download pyspark=={version} ({checksum}): {tail}")
    verify_file(found[0], checksum, f"pyspark=={version} from pip")
    return found[0], f"pyspark=={version} {checksum}"


def archive_download(params: dict[str, Any], checksum: Checksum | None, folder: Path) -> tuple[Path, str]:
    """Fetch Apache's tarball from the first mirror that has it. Raises ArtifactError with the reason per mirror."""
    version = params["version"]
    name = f"spark-{version}-bin-hadoop3.tgz"
    urls = [f"{mirror.rstrip('/')}/spark/spark-{version}/{name}" for mirror in params["mirrors"]]
    if not urls:
        raise ArtifactError("spark_source is archive and spark_mirrors is empty: give at least https://archive.apache.org/dist")
    if checksum is None:
        checksum = origin_checksum(urls, timeout=min(15, params["timeout"]))
    url = fetch_verified(urls, checksum, folder / name, timeout=params["timeout"])
    return folder / name, f"{url} {checksum}"


def local_file(params: dict[str, Any], checksum: Checksum | None) -> tuple[Path, str]:
    """Take the user's file, checked when a checksum is given. Raises ArtifactError."""
    if not params["path"]:
        raise ArtifactError("spark_source is local and spark_local_file is empty: name the file of the distribution on the controller.")
    path = Path(params["path"]).expanduser()
    if not path.is_file():
        raise ArtifactError(f"spark_local_file '{path}' is not a file on the controller.")
    if checksum:
        verify_file(path, checksum, str(path))
    return path, f"local file {path.name}"


def recipe(params: dict[str, Any]) -> str:
    """Return what decides the content, so that another file is not mistaken for the cached one.

    A checksum decides it alone, wherever the file comes from; else the source does, and a local file's size and time.
    """
    if params["checksum"]:
        return f"layout {LAYOUT}, {params['version']} {parse_checksum(params['checksum'])}"
    parts = [f"layout {LAYOUT},", params["source"], params["version"]]
    if params["source"] == "local":
        path = Path(params["path"] or "").expanduser()
        stat = path.stat() if path.is_file() else None
        parts += [str(path), str(stat and (stat.st_size, stat.st_mtime_ns))]
    return " ".join(parts)


def cached(path: Path, wanted: str) -> tuple[str, dict[str, str]] | None:
    """Return (sha256, facts) of a cached file of this recipe."""
    found = sealed(path)
    return found if found and found[1].get("recipe") == wanted else None


def entry(path: Path, sha256: str) -> dict[str, str]:
    """Return what the role that pushes an artifact needs."""
    return {"name": path.name, "path": str(path), "sha256": sha256}


def prepare(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make what is missing in the cache and return the module's result. Raises ArtifactError."""
    version, cache = params["version"], Path(params["cache_dir"]).expanduser()
    checksum = parse_checksum(params["checksum"]) if params["checksum"] else None
    spark, wanted, changed = cache / f"spark-{version}.tar", recipe(params), False

    found = cached(spark, wanted)
    if check_mode and not found:
        return {"changed": True, "msg": f"would prepare {spark}"}
    with cache_lock(cache, f"spark-{version}"):
        found = cached(spark, wanted)  # the run that we waited for may have made it
        if not found:
            with tempfile.TemporaryDirectory(prefix=f".spark-{version}.download-", dir=cache) as scratch:
                if params["source"] == "pypi":
                    source, origin = pip_download(version, checksum, Path(scratch))
                elif params["source"] == "archive":
                    source, origin = archive_download(params, checksum, Path(scratch))
                else:
                    source, origin = local_file(params, checksum)
                part = Path(scratch) / spark.name
                release = f"{source.name} {checksum}" if checksum else origin
                sha256, facts = repack(source, part, version, release)
                part.replace(spark)
            facts |= {"origin": origin, "recipe": wanted}
            seal(spark, sha256, facts)
            found, changed = (sha256, facts), True
        sha256, facts = found
    small = cache / f"zookeeper-{facts['zookeeper_version']}-spark-{version}.tar"
    with cache_lock(cache, small.stem):
        of_zookeeper = cached(small, sha256)
        if not of_zookeeper:
            if not changed and digest_of(spark) != sha256:
                raise ArtifactError(f"{spark} is damaged: remove it and run again.")
            part = small.with_name(f"{small.name}.part-0")
            small_sha256 = zookeeper_tar(spark, part, facts)
            part.replace(small)
            of_zookeeper = (small_sha256, facts | {"recipe": sha256})
            seal(small, *of_zookeeper)
            changed = True
    versions = {key: value for key, value in facts.items() if key.endswith("_version") or key == "origin"}
    return {"changed": changed, "spark": entry(spark, sha256), "zookeeper": entry(small, of_zookeeper[0]), **versions}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "source": {"type": "str", "choices": ["pypi", "archive", "local"], "default": "pypi"},
            "cache_dir": {"type": "path", "required": True},
            "mirrors": {"type": "list", "elements": "str", "default": ["https://archive.apache.org/dist"]},
            "checksum": {"type": "str", "default": ""},
            "path": {"type": "path"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**prepare(module.params, module.check_mode))
    except (ArtifactError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
