"""Vendors call: /v1/inbound/{vendor}, as a POST or, where the vendor does so, a GET."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Request, Response

from serving.addresses import origin
from serving.events import Callback, MalformedCallback, Unproven, VendorUnavailable
from serving.problems import Problem
from serving.routes import Running, admit, header_key
from serving.routes.replies import RawBody, submit
from serving.service import Service
from serving.store import now
from serving.vendors import Vendor

# Each vendor is answered in its own form.
_FORMS = ("text/plain", "text/xml", "application/json")
_ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {"description": "All is recorded", "content": {form: {} for form in _FORMS}}
}
router = APIRouter(prefix="/v1/inbound", responses=_ANSWERED, default_response_class=Response)
log = structlog.get_logger()


@router.get("/{vendor}")
@router.post("/{vendor}")
def inbound(
    vendor: str, body: RawBody, request: Request, service: Running, key: str = ""
) -> Response:
    """Take a vendor's callback in, and answer as the vendor expects once all of it is on disk.

    A vendor that signs needs no key; any other sends one as a header or, where it cannot, in `key` or at
    the end of the path.

    What cannot be read is answered with a problem that names its position, after the rest was recorded:
    the vendor sends the callback again, and what was recorded is not recorded twice.
    """
    return _take(vendor, body, request, service, header_key(request) or key)


@router.get("/{vendor}/{key}")
@router.post("/{vendor}/{key}")
def inbound_by_path(
    vendor: str, key: str, body: RawBody, request: Request, service: Running
) -> Response:
    """The same, for vendors that send no header."""
    return _take(vendor, body, request, service, header_key(request) or key)


def _take(name: str, body: bytes, request: Request, service: Service, key: str) -> Response:
    adapter = service.vendors.get(name)  # type: ignore[call-overload]
    key_id = ""
    if adapter is None or not adapter.proves or key:
        key_id = admit(service, key, "ingest").key_id
    if adapter is None:
        raise Problem("not-found", f"known vendors: {', '.join(sorted(service.vendors))}")
    if request.method == "GET" and not adapter.takes_get:
        raise Problem("method-not-allowed", "this vendor posts", {"Allow": "POST"})
    try:
        return _answered(name, adapter, _callback(request, body, service), request, service, key_id)
    except MalformedCallback as fault:
        raise Problem("malformed", str(fault)) from None
    except Unproven as fault:
        log.warning("callback_unproven", vendor=name, why=str(fault))
        headers = {"WWW-Authenticate": fault.challenge}
        raise Problem("unproven", str(fault), headers) from None
    except VendorUnavailable as fault:
        log.warning("callback_put_off", vendor=name, why=str(fault))
        raise Problem("not-recorded", str(fault), {"Retry-After": "5"}) from None


def _answered(
    name: str,
    adapter: Vendor,
    callback: Callback,
    request: Request,
    service: Service,
    key_id: str,
) -> Response:
    """Verify, parse, record, answer."""
    _check_address(name, request, service)
    if adapter.lacks:
        raise Problem("not-set-up", f"{adapter.lacks} is not set")
    adapter.verify(callback)
    parsed = adapter.parse(callback)
    outcomes = submit(service, [replace(reply, key_id=key_id) for reply in parsed.replies])
    if any(outcome.status == "failed" for outcome in outcomes):
        raise Problem("not-recorded", "not all was recorded", {"Retry-After": "1"})
    faults = [{"position": fault.position, "why": fault.why} for fault in parsed.faults]
    # Positions count the entries of the callback; refused ones are those without a fault of their own.
    taken = [
        k for k in range(len(outcomes) + len(faults)) if k not in {f["position"] for f in faults}
    ]
    faults += [
        {"position": k, "why": outcome.why}
        for k, outcome in zip(taken, outcomes, strict=True)
        if outcome.status == "refused"
    ]
    if faults:
        service.metrics.refused.labels(name).inc(len(parsed.faults))
        raise Problem(
            "malformed", "some entries cannot be read; the others are recorded", errors=faults
        )
    answer = adapter.answer(callback)
    return Response(answer.body, media_type=answer.media_type)


def _callback(request: Request, body: bytes, service: Service) -> Callback:
    """Return the request as the vendor wrote it, before any proxy of ours took it on."""
    base = (
        service.settings.public_url or f"{request.url.scheme}://{request.headers.get('host', '')}"
    )
    path = request.scope.get("raw_path") or request.url.path.encode()
    query = request.scope["query_string"]
    url = base.rstrip("/") + (path + b"?" + query if query else path).decode("latin-1")
    try:
        urlsplit(url)
    except ValueError:
        raise MalformedCallback("the Host header is no host") from None
    return Callback(request.method, url, dict(request.headers), body, now())


def _check_address(name: str, request: Request, service: Service) -> None:
    """Raise Unproven where the vendor's allow-list lacks the address that the request comes from."""
    allowed = [network for vendor, network in service.settings.vendor_addresses if vendor == name]
    if not allowed:
        return
    peer = request.client.host if request.client else ""
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
    address = origin(peer, forwarded, service.settings.trusted_proxies)
    if address is None or not any(address in network for network in allowed):
        raise Unproven("the address is none that TINGXIN_VENDOR_ADDRESSES gives this vendor")
