"""Which targets there are: `targets.toml` → frozen values, secrets from the environment.

    [crm]                       # the table's name is the target's
    kind = "webhook"
    url = "https://crm.example/hooks/tingxin"

A target's secret is in `TINGXIN_SECRET_<NAME>`, never in the file. What is unknown or missing is refused.
"""

import base64
import binascii
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

SECRET_PREFIX = "TINGXIN_SECRET_"  # noqa: S105 - the beginning of a variable's name
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")


def is_http(url: str) -> str:
    """Return an http:// or https:// URL as it is; raise ValueError for any other text."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    return url


def is_private(url: str) -> str:
    """Return a URL over which credentials may be sent: https, or http on the loopback."""
    if urlsplit(is_http(url)).scheme == "http" and not is_loopback(url):
        raise ValueError("must be an https:// URL: credentials are sent over it")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in LOOPBACK


def webhook_secrets(given: SecretStr) -> tuple[str, ...]:
    """Return the `whsec_` secrets in a text, split at blanks or commas; raise ValueError for a bad one.

    >>> len(webhook_secrets(SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")))
    1
    """
    secrets = tuple(re.split(r"[\s,]+", given.get_secret_value().strip()))
    for secret in secrets:
        prefix, _, encoded = secret.partition("_")
        try:
            size = len(base64.b64decode(encoded, validate=True))
        except binascii.Error:
            size = 0
        if prefix != "whsec" or not 24 <= size <= 64:
            raise ValueError("must be whsec_ and the base64 of 24 to 64 random bytes")
    return secrets


Scope = Annotated[str, Field(pattern=r"^(marketing|all|sender:.{1,50})$")]
HttpUrl = Annotated[str, AfterValidator(is_http)]
PrivateUrl = Annotated[str, AfterValidator(is_private)]
PerMinute = Annotated[int, Field(ge=1, le=60_000)]


class _Target(BaseModel):
    """What every target has: a name, and which changes of which lists concern it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    lists: tuple[str, ...] = ()  # empty: every list
    scopes: tuple[Scope, ...] = ()  # empty: every scope
    calls_per_minute: PerMinute | None = None  # unset: as fast as it answers

    def takes(self, list_name: str, scope: str) -> bool:
        """Say whether a change of this list and scope concerns the target."""
        return (not self.lists or list_name in self.lists) and (
            not self.scopes or scope in self.scopes
        )


class WebhookTarget(_Target):
    """A receiver of ours: signed CloudEvents, one a call."""

    kind: Literal["webhook"] = "webhook"
    url: HttpUrl
    secret: SecretStr  # one, or several while they are being rotated: each signs

    @model_validator(mode="after")
    def _has_sound_secrets(self) -> Self:
        webhook_secrets(self.secret)
        return self


class _VendorTarget(_Target):
    """A vendor's list knows a number or does not: no scopes, so it holds what stops marketing."""

    scopes: tuple[Scope, ...] = ("marketing", "all")


class AwsTarget(_VendorTarget):
    """An opt-out list of AWS End User Messaging. Credentials are found as boto3 finds them."""

    kind: Literal["aws"]
    opt_out_list: str = Field(pattern=r"^[A-Za-z0-9_:/-]{1,256}$")  # its name or ARN
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    endpoint: PrivateUrl | None = None  # unset: the region's
    calls_per_minute: PerMinute | None = 300


class TwilioTarget(_VendorTarget):
    """The consents of a Twilio account, for one messaging service or number."""

    kind: Literal["twilio"]
    sid: str = Field(pattern=r"^(AC|SK)[0-9a-fA-F]{32}$")  # of the account, or of an API key
    secret: SecretStr  # the auth token, or the API key's secret
    sender: str = Field(pattern=r"^(MG[0-9a-fA-F]{32}|\+[0-9]{5,15})$")
    endpoint: PrivateUrl = "https://accounts.twilio.com"
    calls_per_minute: PerMinute | None = 100  # what Twilio allows


class BaiduTarget(_VendorTarget):
    """A blacklist of Baidu's SMS: the merchant's, or a signature's for one type of message."""

    kind: Literal["baidu"]
    access_key: str = Field(pattern=r"^[0-9A-Za-z]{16,64}$")
    secret: SecretStr  # the secret access key
    signature_id: str | None = Field(
        default=None, pattern=r"^[\w-]{1,60}$"
    )  # unset: all signatures
    sms_type: str | None = Field(default=None, pattern=r"^\w{1,40}$")
    endpoint: PrivateUrl = "https://smsv3.bj.baidubce.com"
    calls_per_minute: PerMinute | None = 300

    @model_validator(mode="after")
    def _names_signature_and_type_together(self) -> Self:
        if (self.signature_id is None) != (self.sms_type is None):
            raise ValueError("signature_id and sms_type go together")
        return self


Target = WebhookTarget | AwsTarget | TwilioTarget | BaiduTarget
_KINDS: dict[str, type[Target]] = {
    "webhook": WebhookTarget,
    "aws": AwsTarget,
    "twilio": TwilioTarget,
    "baidu": BaiduTarget,
}


def secret_name(target: str) -> str:
    """Return the variable that holds a target's secret.

    >>> secret_name("twilio-us")
    'TINGXIN_SECRET_TWILIO_US'
    """
    return SECRET_PREFIX + target.upper().replace("-", "_")


def read_targets(path: Path, environment: Mapping[str, str]) -> tuple[Target, ...]:
    """Read the targets and their secrets; raise ValueError saying which key of which target is at fault.

    A secret in the environment that no target uses is refused too: its target was misspelt.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        why = str(fault) if isinstance(fault, tomllib.TOMLDecodeError) else type(fault).__name__
        raise ValueError(f"{path.name} cannot be read: {why}") from None
    targets = tuple(_read(path.name, name, table, environment) for name, table in tables.items())
    used = {secret_name(t.name) for t in targets if "secret" in type(t).model_fields}
    for name in sorted(environment):
        if name.startswith(SECRET_PREFIX) and name not in used:
            raise ValueError(f"{name} is the secret of no target in {path.name}")
    return targets


def _read(file: str, name: str, table: object, environment: Mapping[str, str]) -> Target:
    place = f"{file}: [{name}]"
    if not _NAME.fullmatch(name):
        raise ValueError(f"{place}: a name is up to 30 lower-case letters, digits and hyphens")
    kind = table.get("kind") if isinstance(table, dict) else None
    if not isinstance(table, dict) or kind not in _KINDS:
        raise ValueError(f"{place}: kind is one of {', '.join(_KINDS)}")
    if "secret" in table:
        raise ValueError(f"{place}: secrets stand in the environment, as {secret_name(name)}")
    given = {**table, "name": name}
    if "secret" in _KINDS[kind].model_fields:
        secret = environment.get(secret_name(name), "")
        if not secret.strip():
            raise ValueError(f"{place} needs {secret_name(name)} in the environment")
        given["secret"] = secret
    try:
        return TypeAdapter(_KINDS[kind]).validate_python(given)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or kind}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        # `from None`: pydantic's own message repeats the value, which may be a secret.
        raise ValueError(f"{place}: {'; '.join(faults)}") from None
