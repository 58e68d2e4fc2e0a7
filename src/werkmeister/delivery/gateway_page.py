"""The chat page on the gateway: one route for each of its files, and what the page wants to know of the expert."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from werkmeister.delivery.browser_page import PAGE_HEADERS, page_file, page_names


def page_routes(about: dict[str, Any]) -> list[Route]:
    """GET / and every file of the page, and /expert.json with `about`.

    They hold no secret and are served without a key: the page must stand before it can ask for one. Each file has a
    route of its own, so no path of a request ever reaches the disk, and what is not a file of the page stays unknown.
    """

    async def expert(request: Request) -> Response:
        return JSONResponse(about)

    routes = [Route("/expert.json", expert, methods=["GET"])]
    for name in ("", *page_names()):
        found = page_file(name)
        if found is not None:
            routes.append(_file_route(f"/{name}", *found))
    return routes


def _file_route(path: str, media: str, content: bytes) -> Route:
    async def file(request: Request) -> Response:
        return Response(content, media_type=media, headers=PAGE_HEADERS)

    return Route(path, file, methods=["GET"])
