"""Which requests that change something are taken: only those of the site's own pages, or of a program that is no browser. Pure.

A kill button is a plain form, as Spark's. Any other site could carry the same form, and the visitor's browser would send it from inside the
network (CSRF). Browsers say where a POST comes from: Sec-Fetch-Site (W3C Fetch Metadata; only on https and loopback), Origin (RFC 6454; on
every POST).
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from .ui_format import shorten


def refused_as_foreign(headers: Mapping[str, str]) -> str | None:
    """Return why a POST with these headers is refused, None if it may pass.

    X-Forwarded-Host is believed: behind a proxy Host may be the inner name, and no page can make a browser send that header across sites
    without asking first (CORS preflight, which is never granted here).
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        return f"The request comes from another site (Sec-Fetch-Site: {shorten(site, 40)})."
    sender = headers.get("Origin") or headers.get("Referer")
    if sender is None:
        return None  # no browser: curl, a script
    try:
        host = urlsplit(sender).netloc.lower()
    except ValueError:
        host = ""
    own = {value.strip().lower() for name in ("Host", "X-Forwarded-Host") for value in headers.get(name, "").split(",")} - {""}
    return None if host in own else f"The request comes from another site ({shorten(sender, 100)})."


def may_decommission(rule: Literal["DENY", "LOCAL", "ALLOW"], remote: str | None, headers: Mapping[str, str]) -> bool:
    """Return whether this source may decommission hosts (spark.master.ui.decommission.allow.mode).

    LOCAL: a loopback address, and not on behalf of somebody else through a proxy on this host.
    """
    if rule != "LOCAL":
        return rule == "ALLOW"
    if any(name in headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via")):
        return False
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
