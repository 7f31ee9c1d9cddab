"""Every error the API answers with: RFC 9457 problem details, Chinese first, with no number or text in them."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serving.store import DatabaseFails

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

# slug: status, title
KINDS = {
    "malformed": (400, "请求无法读取 / The request cannot be read"),
    "unproven": (401, "无法确认回调来自该厂商 / The callback does not prove its vendor"),
    "unauthorized": (401, "缺少有效的 API 密钥 / No valid API key"),
    "forbidden": (403, "该密钥无此权限 / The key does not open this"),
    "not-found": (404, "未找到 / Not found"),
    "method-not-allowed": (405, "不支持该方法 / Method not allowed"),
    "conflict": (409, "已被处理 / Already decided"),
    "too-large": (413, "请求过大 / The request is too large"),
    "invalid": (422, "内容不符合要求 / The content is not as required"),
    "busy": (429, "请求过多,请稍后重试 / Too many requests, try again shortly"),
    "internal": (500, "服务内部错误 / Internal error"),
    "not-set-up": (503, "该厂商尚未配置 / This vendor is not set up"),
    "not-recorded": (503, "未能记录,请重试 / Not recorded, send it again"),
}
# Where two share a status, the last is what a bare status means.
_BY_STATUS = {status: slug for slug, (status, _) in KINDS.items()}

_TEXT = {"type": "string"}
_DOCUMENTED = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
}
# What the OpenAPI document says of every route's errors.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": {MEDIA_TYPE: {"schema": _DOCUMENTED}}}
    for status, description in [
        ("4XX", "The request is at fault; `detail` says how"),
        ("5XX", "Not done; send it again"),
    ]
}


class Problem(Exception):
    """Raised by a route to answer with a problem; `detail` is a sentence, without anybody's data."""

    def __init__(
        self, slug: str, detail: str, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail
        self.headers = headers or {}
        self.members = members

    def response(self) -> JSONResponse:
        status, _ = KINDS[self.slug]
        return JSONResponse(self.body(), status, self.headers, MEDIA_TYPE)

    def body(self) -> dict[str, Any]:
        """Return the problem as JSON.

        >>> Problem("busy", "10000 replies wait").body()["title"]
        '请求过多,请稍后重试 / Too many requests, try again shortly'
        """
        status, title = KINDS[self.slug]
        return {
            "type": f"urn:tingxin:problem:{self.slug}",
            "title": title,
            "status": status,
            "detail": self.detail,
            **self.members,
        }


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    for failure in DatabaseFails:
        app.add_exception_handler(failure, _database)


async def _problem(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Problem):
        raise error
    return error.response()


async def _validation(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # Only places and rules: `input` would repeat the number or the text.
    faults = [
        {"at": ".".join(str(part) for part in fault["loc"]), "why": fault["msg"]}
        for fault in error.errors()[:20]
    ]
    malformed = any(fault["type"] == "json_invalid" for fault in error.errors())
    detail = "the body is no JSON" if malformed else "see errors for each place"
    return Problem("malformed" if malformed else "invalid", detail, errors=faults).response()


async def _database(_: Request, error: Exception) -> JSONResponse:
    # The class only: a driver's message may quote what it choked on.
    log.error("database_fails", error=type(error).__name__)
    detail = "the database fails: nothing was recorded, send it again"
    return Problem("not-recorded", detail, {"Retry-After": "5"}).response()


async def _http(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    slug = _BY_STATUS.get(error.status_code, "malformed")
    headers = dict(error.headers or {})
    return Problem(slug, KINDS[slug][1].split(" / ")[1], headers).response()
