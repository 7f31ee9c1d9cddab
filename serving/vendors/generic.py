"""Any platform that can post JSON: one object or an array of them.

    {"id": "m-1", "phone": "13800001001", "text": "退订", "time": "2026-09-01T10:00:00+08:00",
     "to": "1069…", "signature": "某某", "campaign": "618"}

`phone` and `text` are needed. Give `id` if you have one: a message posted twice is then recorded once.
Without it, `time` has to tell a repeated delivery from a repeated word.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from serving.events import Answer, Callback, Fault, InboundReply, Parsed, storable
from serving.phones import PhoneError, e164
from serving.vendors import entry as read

proves, lacks, takes_get = False, "", False


def _repaired(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


# pydantic refuses a text that ends in half an emoji, as SMS texts do.
Text = Annotated[str, BeforeValidator(_repaired)]


class GenericReply(BaseModel):
    """One reply as a platform posts it. Other fields are ignored."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    phone: str = Field(max_length=40, repr=False)
    text: Text = Field(repr=False)
    id: str = Field(default="", max_length=100)
    time: AwareDatetime | None = None
    to: Text = Field(default="", max_length=100, repr=False)
    signature: Text = Field(default="", max_length=100)
    campaign: Text = Field(default="", max_length=100)

    def reply(self, received_at: datetime) -> InboundReply:
        """Return it as our event; raise PhoneError if its number is none."""
        return InboundReply(
            vendor="generic",
            id=self.id,
            phone=e164(self.phone),
            text=self.text,
            received_at=received_at,
            vendor_time=self.time,
            to=self.to,
            signature=self.signature,
            campaign=self.campaign,
        )


_READER = TypeAdapter(GenericReply)


def verify(callback: Callback) -> None:
    """Accept: the API key that the platform sends is the protection."""


def parse(callback: Callback) -> Parsed:
    """Return the replies of a callback; a faulty entry does not sink its neighbours."""
    document = read.document(callback.body)
    entries = document if isinstance(document, list) else [document]
    replies, faults = [], []
    for position, entry in enumerate(entries):
        try:
            replies.append(_READER.validate_python(entry).reply(callback.received_at))
        except PhoneError as fault:
            faults.append(Fault(position, f"phone is {fault}"))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "entry"
            faults.append(Fault(position, f"{place}: {first['msg']}"))
    return Parsed(tuple(replies), tuple(faults))


def answer(callback: Callback) -> Answer:
    return Answer(b'{"accepted":true}', "application/json")
