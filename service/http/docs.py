"""The API page: Swagger UI from an installed package, so that it works with no internet."""

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
  <script>
    SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true,
                     persistAuthorization: false, validatorUrl: null});
  </script>
</body>
</html>
"""


async def _page(_: object) -> Response:
    return HTMLResponse(_PAGE)


def docs_routes() -> list[BaseRoute]:
    """`/docs` and what it loads."""
    return [
        StarletteRoute("/docs", _page, methods=["GET"]),
        Mount("/docs/assets", StaticFiles(packages=[("swagger_ui", "static")])),
    ]
