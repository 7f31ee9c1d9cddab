"""Opens the adapter of a target: one dict, kind → class."""

from typing import Any

from serving.targets import Adapter
from serving.targets.aws import Aws
from serving.targets.baidu import Baidu
from serving.targets.config import Target
from serving.targets.twilio import Twilio
from serving.targets.webhook import Webhook

ADAPTERS: dict[str, Any] = {"webhook": Webhook, "aws": Aws, "twilio": Twilio, "baidu": Baidu}


def open_target(target: Target) -> Adapter:
    """Return the adapter of a target; raise TargetFault if it cannot work as configured."""
    adapter: Adapter = ADAPTERS[target.kind](target)
    return adapter
