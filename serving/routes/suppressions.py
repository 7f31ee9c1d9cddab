"""The opt-out list over HTTP: check before sending, add, release, follow, export, import."""

import json
from collections.abc import AsyncIterator, Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from serving import exchange, importing, suppressions
from serving.auth import Caller
from serving.phones import PhoneError, e164
from serving.problems import Problem
from serving.routes import SAID, Body, Running, opens
from serving.suppressions import ASKED_SCOPE, BLOCKING, ENTRY_SCOPE

router = APIRouter(prefix="/v1/suppressions")
MAX_CHECKED = 10_000
IMPORT = "/v1/suppressions/import"  # its body is not read into memory

ListName = Annotated[str, Field(pattern=r"^[\w.-]{1,50}$")]
Asked = Annotated[str, Field(pattern=ASKED_SCOPE)]
Covered = Annotated[str, Field(pattern=ENTRY_SCOPE)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=SAID)]
Reason = Annotated[str, Field(min_length=1, max_length=2000, pattern=SAID)]
Phone = Annotated[str, Field(max_length=40)]


class Check(Body):
    """May these numbers be sent a message of this scope? `otp` and `transactional` are stopped by `all` alone."""

    phones: Annotated[list[Phone], Field(min_length=1, max_length=MAX_CHECKED)] = Field(repr=False)
    scope: Asked = "marketing"
    list: ListName | None = None


class Addition(Body):
    """A named person puts a number on the list."""

    phone: Phone = Field(repr=False)
    actor: Name
    reason: Reason
    scope: Covered = "marketing"
    list: ListName | None = None


class Release(Body):
    """A named person takes a number off the list, and says why. Without scope: off every scope."""

    actor: Name
    reason: Reason
    scope: Covered | None = None
    list: ListName | None = None


# The fixed paths stand before /{phone}, which would match them too.
@router.post("/check", dependencies=[Depends(opens("read"))])
def check(body: Check, service: Running) -> Response:
    """Answer for each number, in order. One that nobody can read is not cleared for sending.

    `{"scope": …, "results": [{"phone", "suppressed", "scope"?, "state"?, "receipt"?, "error"?}, …]}`
    """
    phones: list[str | None] = []
    for given in body.phones:
        try:
            phones.append(e164(given))
        except PhoneError:
            phones.append(None)
    keys = [service.store.phones.key(phone) if phone else "" for phone in phones]
    with service.store.read() as connection:
        list_name = body.list or service.settings.brand_list
        found = suppressions.covering(connection, list_name, filter(None, keys), body.scope)
    results: list[dict[str, Any]] = []
    for given, key in zip(body.phones, keys, strict=True):
        entry = found.get(key)
        result: dict[str, Any] = {"phone": given, "suppressed": entry is not None or not key}
        if not key:
            result["error"] = "not a phone number"
        if entry is not None:
            result |= {"scope": entry.scope, "state": entry.state, "receipt": entry.receipt_id}
        results.append(result)
    # FastAPI would walk through all of it once more before it writes it: as long as the look-up takes.
    content = json.dumps({"scope": body.scope, "results": results}, ensure_ascii=False)
    return Response(content, media_type="application/json")


@router.get("/changes", dependencies=[Depends(opens("read"))])
def changes(
    service: Running,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    list: ListName | None = None,  # noqa: A002 - the parameter's name in the query
) -> dict[str, Any]:
    """Return what changed after a cursor, oldest first, and the cursor to ask with next time."""
    name = list or service.settings.brand_list
    with service.store.read() as connection:
        found = suppressions.changes(connection, service.store.phones, name, after, limit)
    return {"changes": found, "next": found[-1]["cursor"] if found else after}


@router.get(
    "/export",
    dependencies=[Depends(opens("admin"))],
    response_class=StreamingResponse,
    responses={200: {"description": "The list", "content": {"text/csv": {}}}},
)
def export(
    service: Running,
    list: ListName | None = None,  # noqa: A002 - the parameter's name in the query
) -> StreamingResponse:
    """Return the whole list as CSV."""
    name = list or service.settings.brand_list

    def lines() -> Iterator[bytes]:
        yield from exchange.export(service.store, name)

    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


_admin = opens("admin")
Admin = Annotated[Caller, Depends(_admin)]


async def upload(request: Request, service: Running, _: Admin) -> AsyncIterator[IO[bytes]]:
    """Keep a body as a nameless file that is gone with the request; only for who may send one."""
    folder = str(service.settings.home)
    with SpooledTemporaryFile(max_size=service.settings.max_body_bytes, dir=folder) as file:
        async for part in request.stream():
            file.write(part)
        yield file


@router.post("/import")
def import_(
    caller: Admin,
    file: Annotated[IO[bytes], Depends(upload)],
    service: Running,
    list: ListName | None = None,  # noqa: A002 - the parameter's name in the query
    actor: Annotated[str, Query(max_length=100, pattern=SAID)] | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Add the numbers of a CSV file; answer how many were new and which lines could not be read.

    With `dry_run=true`: say what would be done, and do nothing.
    """
    name = list or service.settings.brand_list
    try:
        imported = importing.import_(service.store, name, file, actor or caller.name, dry_run)
    except importing.UnreadableFile as fault:
        raise Problem("malformed", str(fault)) from None
    service.relay.wake()
    return imported.summary()


@router.get("/{phone}", dependencies=[Depends(opens("read"))])
def get_one(
    phone: str,
    service: Running,
    scope: Annotated[Asked, Query()] = "marketing",
    list: ListName | None = None,  # noqa: A002 - the parameter's name in the query
) -> dict[str, Any]:
    """Return whether a number must not be sent a message of this scope, and all its entries."""
    key = service.store.phones.key(_read(phone))
    name = list or service.settings.brand_list
    with service.store.read() as connection:
        found = suppressions.entries(connection, name, key)
    covering = suppressions.covering_scopes(scope)
    blocked = any(e.scope in covering and e.state in BLOCKING for e in found)
    return {"suppressed": blocked, "scope": scope, "entries": [e.public() for e in found]}


@router.post("", status_code=201, dependencies=[Depends(opens("review"))])
def add(body: Addition, service: Running) -> dict[str, Any]:
    """Put a number on the list; what stands there already is left as it is."""
    entry = exchange.add(
        service.store,
        body.list or service.settings.brand_list,
        _read(body.phone),
        body.scope,
        body.actor,
        body.reason,
    )
    service.relay.wake()
    return entry.public()


@router.post("/{phone}/release", dependencies=[Depends(opens("review"))])
def release(phone: str, body: Release, service: Running) -> dict[str, Any]:
    """Take a number off the list; 404 if it is not on it."""
    released = exchange.release(
        service.store,
        body.list or service.settings.brand_list,
        _read(phone),
        body.scope,
        body.actor,
        body.reason,
    )
    if not released:
        raise Problem("not-found", "the number is not on this list")
    service.relay.wake()
    return {"released": [entry.public() for entry in released]}


def _read(phone: str) -> str:
    try:
        return e164(phone)
    except PhoneError as fault:
        raise Problem("invalid", f"phone is {fault}") from None
