"""Judge the whole inventory on the controller, before any host is spoken to.

Facts are not there yet, and role defaults of roles that no play has loaded are not either: both are the reason why this is
an action plugin and not a list of asserts. The rules are in module_utils/preflight_rules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible.utils.display import Display

ROOT = Path(__file__).resolve().parent.parent.parent

# Ansible sends module_utils to the hosts; on the controller they must be put where the same import finds them.
_UTILS = str(ROOT / "plugins" / "module_utils")
if _UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_UTILS)

from ansible.module_utils import preflight_model, preflight_rules, preflight_values  # noqa: E402

display = Display()

#: Variables of Ansible's own that the rules read.
CONNECTION = ("ansible_host", "ansible_port", "ansible_connection")


class ActionModule(ActionBase):  # type: ignore[misc]
    """``preflight_inventory``: no hosts are contacted, nothing is changed."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return every problem of the inventory, failed when there is one that is not a warning.

        The result also has, per host, what the check on the host needs (``hosts``).
        """
        self.validate_argument_spec(argument_spec={"other_groups": {"type": "list", "elements": "str", "default": []}})
        result: dict[str, Any] = super().run(tmp, task_vars)
        inventory = self._inventory(task_vars or {})
        found = preflight_rules.check(inventory)
        for item in found:
            if item.warning:
                display.warning(f"{item.variable}: {item.value}. {item.problem} Better: {item.fix}")
        errors = [item for item in found if not item.warning]
        result["changed"] = False
        if errors:
            result["failed"] = True
            result["msg"] = preflight_model.report(errors, inventory.hosts, "in the inventory")
        else:
            result["hosts"] = {host: self._needs(inventory, host) for host in inventory.hosts}
            result["lines"] = inventory.lines
            result["java"] = self._java()
        return result

    def _inventory(self, task_vars: dict[str, Any]) -> preflight_model.Inventory:
        """Gather defaults, inventory and argument_specs into plain data."""
        defaults: dict[str, Any] = {}
        internal: dict[str, Any] = {}
        specs: dict[str, Any] = {}
        for role in sorted((ROOT / "roles").iterdir()):
            defaults.update(self._yaml(role / "defaults" / "main.yml"))
            internal.update(self._yaml(role / "vars" / "main.yml"))
            for entry in self._yaml(role / "meta" / "argument_specs.yml").get("argument_specs", {}).values():
                for name, spec in (entry.get("options") or {}).items():
                    known = {} if spec is None else dict(spec)
                    specs.setdefault(name, {}).update(known)
        for name, value in defaults.items():
            specs.setdefault(name, {"type": "raw"})  # of a role without argument_specs
            if not (isinstance(value, str) and "{{" in value):
                specs[name].setdefault("default", value)

        hostvars = task_vars["hostvars"]
        manager = hostvars._inventory
        values, given, broken = {}, {}, {}
        for host in task_vars["groups"]["all"]:
            raw = dict(hostvars.raw_get(host))
            if not raw.get("ansible_facts"):
                raw.pop("ansible_facts", None)  # so that what needs facts says so, instead of missing some attribute
            scope = {**defaults, **internal, **raw, "hostvars": hostvars}
            effective, bad = self._template(scope, [*specs, *CONNECTION], set(raw))
            values[host] = effective
            broken[host] = bad
            given[host] = {
                name: effective.get(name, _plain(value)) for name, value in raw.items() if name.startswith(preflight_values.PREFIXES)
            }
        return preflight_model.Inventory(
            groups={name: list(hosts) for name, hosts in task_vars["groups"].items()},
            related={
                name: [other.name for other in (*group.get_ancestors(), *group.get_descendants()) if other.name != "all"]
                for name, group in manager.groups.items()
            },
            values=values,
            given=given,
            broken=broken,
            specs=specs,
            lines=_plain(internal.get("cluster_spark_lines", {})),
            other_groups=list(self._task.args.get("other_groups") or []),
        )

    def _template(self, scope: dict[str, Any], names: list[str], from_user: set[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what the variables come to for one host, and why a user's one cannot be worked out.

        A value that needs facts is simply not known yet: this runs before the first look at a host.
        """
        templar = Templar(loader=self._loader, variables=scope)
        values: dict[str, Any] = {}
        broken: dict[str, str] = {}
        for name in names:
            if name not in scope:
                continue
            try:
                values[name] = _plain(templar.template(scope[name]))
            except (AnsibleError, TypeError, ValueError, KeyError) as error:
                if name in from_user and "ansible_facts" not in str(scope[name]) and "ansible_facts" not in str(error):
                    broken[name] = " ".join(str(error).split())
        return values, broken

    def _needs(self, inventory: preflight_model.Inventory, host: str) -> dict[str, Any]:
        """Return what the check on one host must look at; empty for a host that is none of the project's."""
        if host not in inventory.cluster_hosts():
            return {}
        get = inventory.values[host].get
        spark = host in inventory.spark_hosts()
        ensemble = host in inventory.ensemble()
        paths = [get(name) for name in ("spark_install_root", "spark_state_dir", "spark_log_dir") if spark]
        paths += [get("sparkd_install_root")] if spark and get("spark_daemons") == "sparkd" else []
        paths += [get(name) for name in ("zookeeper_install_root", "zookeeper_data_dir", "zookeeper_data_log_dir") if ensemble]
        elects = host in inventory.members("spark_masters") and get("spark_recovery_mode") == "ZOOKEEPER"
        return {
            "external": str(get("zookeeper_external") or "") if elects else "",
            # The word cons, which only the latchkeeper needs.
            "sessions": get("spark_daemons") != "sparkd" and preflight_model.as_bool(get("spark_master_fencing", True)),
            "sparkd_python": str(get("sparkd_python") or "") if spark and get("spark_daemons") == "sparkd" else "",
            "ports": [
                {"port": port, "variable": variable, "what": what} for port, variable, what, _ in preflight_rules.listeners(inventory, host)
            ],
            "paths": sorted({str(path) for path in paths if path}),
            "names": {
                peer: str(inventory.get(peer, "cluster_ip") or "")
                for peer in (inventory.get(other, "cluster_address") for other in inventory.cluster_hosts())
                if peer
            }
            if not preflight_model.as_bool(get("names_manage_etc_hosts", True))
            else {},
            "spark_version": str(get("spark_version", "")) if spark else "",
            "java_home": str(get("java_home") or ""),
            "java_version": preflight_model.as_int(get("java_version")) or 0,
            "myid": preflight_model.as_int(get("zookeeper_myid")) or 0 if ensemble else 0,
            "myid_file": f"{get('zookeeper_data_dir')}/myid" if ensemble and get("zookeeper_data_dir") else "",
        }

    def _java(self) -> dict[str, list[int]]:
        """Return the Java versions that each distribution packages, from the java role's file per release ("Debian-12")."""
        found = {}
        for file in sorted((ROOT / "roles" / "java" / "vars").glob("*-*.yml")):
            found[file.stem] = [int(version) for version in self._yaml(file).get("_java_packages", {})]
        return found

    def _yaml(self, path: Path) -> dict[str, Any]:
        """Return the mapping of one of the project's own files, templates in it still to be worked out; empty when missing."""
        if not path.is_file():
            return {}
        return dict(self._loader.load_from_file(str(path), trusted_as_template=True) or {})


def _plain(value: Any) -> Any:
    """Return a value without Ansible's tags and lazy containers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)
