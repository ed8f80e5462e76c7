"""The control plane's errors (reference, 1.4)."""

from __future__ import annotations

from aiohttp import web


class ApiError(Exception):
    """An answer that is an error: JSON whose `code` is the status."""

    def __init__(self, status: int, message: str, *, error_code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_code = error_code

    def body(self) -> dict[str, object]:
        body: dict[str, object] = {"code": self.status, "message": self.message}
        return body if self.error_code is None else {**body, "error_code": self.error_code}

    def response(self) -> web.Response:
        return web.json_response(self.body(), status=self.status)


def missing(sandbox_id: str) -> ApiError:
    """One answer for what is dead, another team's, or never was."""
    return ApiError(404, f"sandbox '{sandbox_id}' doesn't exist or you don't have access to it")
