"""The vendors whose callbacks we take, by the name in `/v1/inbound/{vendor}`. One file each, three steps."""

from typing import Protocol

from serving.events import Answer, Callback, Parsed
from serving.settings import Settings, VendorName
from serving.vendors import aliyun, generic, tencent
from serving.vendors.aws import Aws, Fetch, fetch_over_https
from serving.vendors.huawei import Huawei
from serving.vendors.infobip import Infobip
from serving.vendors.twilio import Twilio
from serving.vendors.vonage import Vonage


class Vendor(Protocol):
    """What a vendor's file offers: verify, parse, answer. No database, no framework."""

    @property
    def proves(self) -> bool:
        """`verify` tells the vendor from anybody else. Where it does not, an API key has to."""

    @property
    def lacks(self) -> str:
        """The setting without which nothing can be taken from the vendor; "" if none is missing."""

    @property
    def takes_get(self) -> bool:
        """The vendor may send its callback as a GET."""

    def verify(self, callback: Callback) -> None:
        """Raise Unproven unless the callback is the vendor's, as far as it can be told.

        Raises MalformedCallback for what cannot be read, VendorUnavailable where it cannot be told now.
        """

    def parse(self, callback: Callback) -> Parsed:
        """Return the replies in a callback and what is wrong with the rest; raise MalformedCallback."""

    def answer(self, callback: Callback) -> Answer:
        """Return what tells the vendor that all is recorded; raise VendorUnavailable."""


def vendors(settings: Settings, fetch: Fetch = fetch_over_https) -> dict[VendorName, Vendor]:
    """Return all vendors, with the secrets of the settings; `fetch` gets what SNS names."""
    return {
        "aliyun": aliyun,
        "aws": Aws(settings.aws_topics, fetch),
        "generic": generic,
        "huawei": Huawei(settings.huawei_keys),
        "infobip": Infobip(settings.infobip_basic),
        "tencent": tencent,
        "twilio": Twilio(settings.twilio_auth_token),
        "vonage": Vonage(settings.vonage_signature_secret, settings.vonage_signature_method),
    }
