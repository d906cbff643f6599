"""The page at ``/``: built files that come with the package, and nothing from anywhere else."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "page"
_HINT = (
    "ParaThinker is running. Its page is not part of this installation; the API is at /v1, "
    "its description at /openapi.json.\n"
)


class Assets(StaticFiles):
    """Files whose names change with their contents: browsers may keep them for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or an error."""
        response = await super().get_response(path, scope)
        if response.status_code in (200, 304):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def add_page(app: FastAPI, folder: Path = FOLDER) -> None:
    """Serve the page, or a hint where it was not built."""

    async def index() -> Response:
        file = folder / "index.html"
        if not file.is_file():
            return PlainTextResponse(_HINT)
        return FileResponse(file, headers={"Cache-Control": "no-cache"})

    app.add_api_route("/", index, methods=["GET", "HEAD"], include_in_schema=False)
    if (folder / "assets").is_dir():
        app.mount("/assets", Assets(directory=folder / "assets"), name="assets")
