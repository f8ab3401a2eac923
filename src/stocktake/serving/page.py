"""The page for people: its files as they are, under a policy that lets nothing else in."""

import html
from collections.abc import Callable
from importlib.resources import files
from string import Template
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

FILES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript", "page.svg": "image/svg+xml"}
HEADERS = {
    # Only what this server itself sends is fetched or run; pictures are shown from the browser's own memory.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI, **facts: Any) -> None:
    """Adds page.html at / and what it needs beside it; `facts` stand in for its `$names`."""
    facts = {name: html.escape(str(value)) for name, value in facts.items()}
    for name, media_type in FILES.items():
        content = files("stocktake.serving").joinpath(name).read_text("utf-8")
        if name == "page.html":
            name, content = "", Template(content).substitute(facts)
        app.add_route(f"/{name}", _always(Response(content, headers=HEADERS, media_type=media_type)))


def _always(response: Response) -> Callable:
    async def respond(request: Request) -> Response:
        return response

    return respond
