"""What all pages share: templates, headers, static files, small helpers of their handlers.

Pages have no inline script and no inline style: the content security policy allows the daemon's own files only. Links are relative, so a
proxy may add a prefix.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jinja2
from aiohttp import web

from .. import __version__
from ..settings import WebSettings
from . import ui_format, ui_views
from .answers import BadBody, read_body

HERE = Path(__file__).parent

#: Bytes of a form that are read.
FORM_BYTES = 16 * 1024

TYPES: Mapping[str, str] = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Assets:
    """The static files, read once. Their URLs carry a hash of all of them, so they may be cached for ever."""

    def __init__(self, directory: Path = HERE / "static") -> None:
        self.files = {path.name: (path.read_bytes(), TYPES[path.suffix]) for path in sorted(directory.iterdir()) if path.suffix in TYPES}
        self.mark = hashlib.sha256(b"".join(body for body, _ in self.files.values())).hexdigest()[:12]

    def url(self, root: str, name: str) -> str:
        """Return a file's URL, relative to a page whose way up is `root`."""
        return f"{root}static/{name}?v={self.mark}"


def add_static(app: web.Application) -> Assets:
    """Add /static/NAME and return what is there."""
    assets = Assets()

    async def static(request: web.Request) -> web.Response:
        found = assets.files.get(request.match_info["name"])
        if found is None:
            return web.Response(status=404, text="There is no such file.", headers={"X-Content-Type-Options": "nosniff"})
        same = request.query.get("v") == assets.mark
        return web.Response(
            body=found[0],
            content_type=found[1],
            charset="utf-8",
            headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "public, max-age=31536000, immutable" if same else "no-cache"},
        )

    app.router.add_get("/static/{name}", static)
    return assets


def wall_ms() -> int:
    """Return the wall clock, which pages compare with the times that they show."""
    return time.time_ns() // 1_000_000


class Pages:
    """Templates and headers. One per app."""

    def __init__(self, settings: WebSettings, assets: Assets) -> None:
        self.settings = settings
        self.environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters.update(
            {name: getattr(ui_format, name) for name in ("tone", "span", "exact", "iso", "memory", "size", "safe_url", "shorten")}
            | {"exit_words": ui_views.exit_words}
        )
        self.environment.globals.update(
            percent=ui_format.percent, ago=ui_format.ago, product=f"sparkd {__version__}", asset=assets.url, assets_mark=assets.mark
        )

    def answer(
        self, request: web.Request, template: str, values: Mapping[str, Any], status: int = 200, origins: tuple[str, ...] = ()
    ) -> web.Response:
        """Return a page. origins: what its script may ask besides this daemon, that is, the other masters."""
        depth = request.path.count("/") - 1
        body = self.environment.get_template(template).render(
            {
                "root": "../" * depth or "./",
                "path": request.path,
                "query_string": request.query_string,
                "query": request.query,
                "now_ms": wall_ms(),
                "settings": self.settings,
                "title": self.settings.title,
                **values,
            }
        )
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'; connect-src " + " ".join(("'self'", *origins))
        )
        return web.Response(
            body=body.encode("utf-8", "replace"),
            status=status,
            content_type="text/html",
            charset="utf-8",
            headers={
                "Content-Security-Policy": policy,
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
                "Referrer-Policy": "same-origin",
                "Cache-Control": "no-store",
            },
        )


def number(text: str | None, otherwise: int) -> int:
    """Return a number from a query; anything that is none is the other value."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else otherwise


def plain(status: int, text: str) -> web.Response:
    """Return a sentence for scripts."""
    return web.Response(status=status, text=text + "\n", headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"})


async def with_slash(request: web.Request) -> web.StreamResponse:
    """Redirect to the same page with a slash at its end: relative links need it."""
    name = request.path.rsplit("/", 1)[-1]
    raise web.HTTPFound(f"{name}/" + (f"?{request.query_string}" if request.query_string else ""))


async def read_form(request: web.Request) -> dict[str, list[str]]:
    """Return the fields of a urlencoded form. Raises web.HTTPException for one that is too long, too slow or none."""
    try:
        body = await read_body(request, FORM_BYTES)
        return parse_qs(body.decode(), max_num_fields=200)
    except BadBody as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None
    except ValueError:
        raise web.HTTPBadRequest(text="The form cannot be read.\n") from None
