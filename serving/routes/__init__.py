"""The HTTP routes, one file per subject, and what they share: the service, and who is calling."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict

from serving import auth
from serving.auth import Caller, Scope
from serving.problems import Problem
from serving.service import Service


class Body(BaseModel):
    """A request body: unknown fields are refused, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


async def _service(request: Request) -> Service:  # async: a thread for this alone would cost more
    service: Service = request.app.state.service
    return service


# What PostgreSQL takes as text, which is all but NUL.
STORABLE = r"^[^\x00]*$"
SAID = r"^[^\x00]*[^\x00\s][^\x00]*$"  # and not blank
Id = Annotated[str, Path(pattern=STORABLE)]

Running = Annotated[Service, Depends(_service)]


def opens(scope: Scope) -> Callable[[Request, Service], Caller]:
    """Return a dependency that lets a caller in whose key has the scope: `Depends(opens("read"))`."""

    def enter(request: Request, service: Running) -> Caller:
        return admit(service, header_key(request), scope)

    return enter


def header_key(request: Request) -> str:
    """Return the key in `Authorization: Bearer …` or `X-API-Key: …`, or ""."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    return request.headers.get("x-api-key", "")


def admit(service: Service, key: str, scope: Scope) -> Caller:
    """Return whose key it is; raise a Problem if it is nobody's or does not have the scope."""
    caller = auth.recognise(service.store, key)
    if caller is None:
        detail = "send a key as 'Authorization: Bearer tx_…' or 'X-API-Key: tx_…'"
        raise Problem("unauthorized", detail, {"WWW-Authenticate": "Bearer"})
    if not caller.may(scope):
        raise Problem("forbidden", f"this needs a key with the scope {scope!r}")
    if scope != "ingest" and (seconds := service.rate_limit.wait(caller)):
        detail = f"this key may ask {service.settings.requests_per_minute} times a minute"
        raise Problem("busy", detail, {"Retry-After": str(seconds)})
    return caller
