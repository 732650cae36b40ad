"""The API page: Swagger UI from an installed package, so that it works with no internet."""

import os

from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.routing import Route as StarletteRoute
from starlette.staticfiles import StaticFiles

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>Headstock API</title>
  <link rel="icon" href="docs/assets/favicon-32x32.png">
  <link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
  <div id="page"></div>
  <script src="docs/assets/swagger-ui-bundle.js"></script>
  <script src="docs/start.js"></script>
</body>
</html>
"""
# In a file of its own: the page's policy allows no script inside it.
_START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true,
                 persistAuthorization: false, validatorUrl: null});
"""
# The package holds an editor, too, and 20 MB of maps, which nobody needs to be sent.
_ASSETS = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"})


class _Assets(StaticFiles):
    """What the page loads, and no more."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """A file of the package; none for others."""
        return super().lookup_path(path) if path in _ASSETS else ("", None)


async def _page(_: object) -> Response:
    return HTMLResponse(_PAGE)


async def _start(_: object) -> Response:
    return Response(_START, media_type="text/javascript")


def docs_routes() -> list[BaseRoute]:
    """`/docs` and what it loads."""
    return [
        StarletteRoute("/docs", _page, methods=["GET"]),
        StarletteRoute("/docs/start.js", _start, methods=["GET"]),
        Mount("/docs/assets", _Assets(packages=[("swagger_ui", "static")])),
    ]
