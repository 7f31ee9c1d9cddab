"""Replies come in: /v1/classify, /v1/replies; receipts go out: /v1/receipts/{id}, /v1/receipts/export."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from tempfile import TemporaryFile
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from model.classifier import TextTooLong
from serving import dossier, receipts
from serving.auth import Caller
from serving.events import InboundReply
from serving.intake import IntakeClosed, IntakeFull, Outcome
from serving.phones import PhoneError, e164
from serving.problems import Problem
from serving.routes import SAID, STORABLE, Body, Id, Running, opens
from serving.service import Service
from serving.store import now
from serving.vendors.generic import GenericReply

router = APIRouter(prefix="/v1")
MAX_REPLIES = 1000


class Texts(Body):
    """What /v1/classify reads."""

    texts: Annotated[list[str], Field(min_length=1, max_length=MAX_REPLIES)]


@router.post("/classify", dependencies=[Depends(opens("read"))])
def classify(body: Texts, service: Running) -> dict[str, Any]:
    """Say what texts mean; nothing is kept."""
    try:
        predictions = service.classifier.classify(body.texts)
    except TextTooLong as error:
        raise Problem("invalid", str(error)) from None
    version = service.classifier.bundle.version
    return {"bundle": version, "predictions": [p.row() for p in predictions]}


@router.post("/replies")
def post_replies(
    body: GenericReply | Annotated[list[GenericReply], Field(min_length=1, max_length=MAX_REPLIES)],
    service: Running,
    caller: Annotated[Caller, Depends(opens("ingest"))],
) -> dict[str, Any]:
    """Take one reply or up to 1,000 in, and answer with what was decided on each, in order.

    A reply that cannot be taken has the status `refused` (never) or `failed` (send it again) and does
    not hold up the others. All are on disk when the answer comes.
    """
    received_at = now()
    given = body if isinstance(body, list) else [body]
    replies: list[InboundReply | str] = []
    for one in given:
        try:
            replies.append(replace(one.reply(received_at), key_id=caller.key_id))
        except PhoneError as fault:
            replies.append(f"phone is {fault}")
    outcomes = iter(submit(service, [r for r in replies if isinstance(r, InboundReply)]))
    results = [
        _result(next(outcomes))
        if isinstance(reply, InboundReply)
        else {"id": one.id, "status": "refused", "why": reply}
        for one, reply in zip(given, replies, strict=True)
    ]
    if not isinstance(body, list) and results[0]["status"] == "refused":
        raise Problem("invalid", results[0]["why"])
    if all(result["status"] == "failed" for result in results):
        raise Problem("not-recorded", "nothing was recorded", {"Retry-After": "1"})
    return {"results": results}


async def raw_body(request: Request) -> bytes:
    """Return the bytes as they came; a vendor's signature is over them."""
    return await request.body()


RawBody = Annotated[bytes, Depends(raw_body)]


@router.get("/receipts/{receipt_id}", dependencies=[Depends(opens("read"))])
def receipt(receipt_id: Id, service: Running) -> dict[str, Any]:
    """Return why something was decided, with the hashes that bind it, and what became of its pushes."""
    with service.store.read() as connection:
        found = receipts.read(connection, receipt_id)
    if found is None:
        raise Problem("not-found", "no receipt of this id")
    return found


class InquiryBody(Body):
    """Which receipts, for whom, why: by number or by the id of one; number and texts in clear if revealed."""

    actor: Annotated[str, Field(min_length=1, max_length=100, pattern=SAID)]
    reason: Annotated[str, Field(min_length=1, max_length=2000, pattern=SAID)]
    phone: Annotated[str, Field(max_length=40)] | None = Field(default=None, repr=False)
    receipt: Annotated[str, Field(max_length=40, pattern=STORABLE)] | None = None
    reveal: bool = False


# A POST: a number in a URL ends up in the logs of proxies.
@router.post(
    "/receipts/export",
    dependencies=[Depends(opens("admin"))],
    response_class=StreamingResponse,
    responses={200: {"description": "A dossier", "content": {"application/zip": {}}}},
)
def export_receipts(body: InquiryBody, service: Running) -> StreamingResponse:
    """Return all receipts about a number or a decision as a ZIP file that proves itself."""
    file = TemporaryFile()  # noqa: SIM115 - closed when it has been sent
    try:
        phone = None if body.phone is None else e164(body.phone)
        inquiry = dossier.Inquiry(body.actor, body.reason, phone, body.receipt, body.reveal)
        dossier.write(service.store, inquiry, file)
    except BaseException as fault:
        file.close()
        if isinstance(fault, dossier.NothingFound):
            raise Problem("not-found", str(fault)) from None
        if isinstance(fault, PhoneError):
            raise Problem("invalid", f"phone is {fault}") from None
        if isinstance(fault, ValueError):
            raise Problem("invalid", str(fault)) from None
        raise

    def parts() -> Iterator[bytes]:
        with file:
            file.seek(0)
            while part := file.read(2**16):
                yield part

    headers = {"Content-Disposition": 'attachment; filename="receipts.zip"'}
    return StreamingResponse(parts(), media_type="application/zip", headers=headers)


def submit(service: Service, replies: Sequence[InboundReply]) -> list[Outcome]:
    """Take replies in; where there is no room, say so in HTTP's terms."""
    try:
        return service.submit(replies)
    except IntakeFull as full:
        raise Problem("busy", str(full), {"Retry-After": "1"}) from None
    except IntakeClosed as closed:
        raise Problem("not-recorded", str(closed), {"Retry-After": "5"}) from None


def _result(outcome: Outcome) -> dict[str, Any]:
    result = {"id": outcome.message_id, "status": outcome.status}
    return result | (outcome.decision if outcome.decision else {"why": outcome.why})
