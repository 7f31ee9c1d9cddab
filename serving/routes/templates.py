"""The operator's own templates over HTTP: what people quote back is not what they say."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from serving.echoes import TemplateFault
from serving.events import storable
from serving.problems import Problem
from serving.routes import Body, Running, opens
from serving.templates import TooManyTemplates

router = APIRouter(prefix="/v1/templates", dependencies=[Depends(opens("admin"))])


class NewTemplate(Body):
    """A message as it is sent, signature and opt-out line included; variables as ${name}, {1}, #code# or %s."""

    text: Annotated[str, Field(min_length=1, max_length=2000)]
    actor: Annotated[str, Field(min_length=1, max_length=100)]


@router.get("")
def listing(service: Running) -> dict[str, Any]:
    """Return all templates, oldest first."""
    return {"templates": service.templates.listing()}


@router.post("", status_code=201)
def add(body: NewTemplate, service: Running) -> dict[str, Any]:
    """Register a template; a reply that quotes it is read without it."""
    try:
        return service.templates.add(storable(body.text), storable(body.actor))
    except (TemplateFault, TooManyTemplates) as fault:
        raise Problem("invalid", str(fault)) from None


@router.delete("/{template_id}", status_code=204)
def remove(template_id: str, service: Running) -> Response:
    """Remove a template; receipts go on naming it by its id."""
    if not service.templates.remove(template_id):
        raise Problem("not-found", "no template of this id")
    return Response(status_code=204)
