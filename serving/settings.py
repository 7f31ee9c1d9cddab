"""The environment, read once: `TINGXIN_*` → a frozen `Settings`. No other file reads the environment."""

import difflib
import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from serving.targets.config import (
    SECRET_PREFIX,
    HttpUrl,
    Target,
    WebhookTarget,
    read_targets,
    webhook_secrets,
)

PREFIX = "TINGXIN_"
WEBHOOK = "webhook"  # the name of the target that TINGXIN_PUSH_URL makes

Network = IPv4Network | IPv6Network
VendorName = Literal["aliyun", "aws", "generic", "huawei", "infobip", "tencent", "twilio", "vonage"]


class SettingsError(ValueError):
    """A setting is unknown, out of range, or lacks another that it needs. The text holds no value."""


class Settings(BaseModel):
    """Everything an operator can choose. Made by hand, it reads nothing: no demo or test touches a real list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(default_factory=lambda: Path.home() / ".tingxin")
    database_url: SecretStr | None = None  # SQLAlchemy URL; unset: SQLite under home
    bundle: Path | None = None  # unset: the bundle that ships
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0: any free port
    push_url: HttpUrl | None = None  # without any target events wait in the outbox, in sight
    push_secret: SecretStr | None = None  # whsec_…, shared with the receiver; several: all sign
    # In the environment: the path of targets.toml, which is read with its secrets.
    targets: Annotated[tuple[Target, ...], NoDecode] = Field(default=(), repr=False)
    traces_url: HttpUrl | None = None  # of an OTLP collector (http/protobuf); unset: no traces
    brand_list: str = Field(default="default", pattern=r"^[\w.-]{1,50}$")
    phone_key: SecretStr | None = None  # unset: a file under home, made at the first start
    list_numbers: Literal["sealed", "masked"] = "sealed"  # "masked": the list cannot be exported
    max_body_bytes: int = Field(default=8 * 2**20, ge=1024)
    max_import_bytes: int = Field(default=256 * 2**20, ge=1024)  # of a list that comes in as a file
    # Days that things are kept (`tingxin purge`): five months is the least that the law asks for.
    keep_text_days: int = Field(default=153, ge=1)  # texts and numbers of replies
    keep_released_days: int = Field(default=153, ge=1)  # list entries, from their release
    keep_receipts_days: int = Field(default=1826, ge=1)  # receipts, and what is left of replies
    requests_per_minute: int = Field(default=6000, ge=0)  # of each key; 0: any number
    # The breaker (serving/breaker.py): when opt-outs by the model, or from one source, are a flood.
    breaker_window: int = Field(default=500, ge=0, le=100_000)  # latest replies; 0: no breaker
    breaker_factor: float = Field(default=3.0, gt=1)  # of the usual odds
    breaker_history: int = Field(default=2000, ge=1)  # replies before it may open
    breaker_max_held: int = Field(default=100, ge=0)  # numbers held while open; beyond: review
    intake_capacity: int = Field(default=10_000, ge=1)  # replies waiting; beyond it callers get 429
    stream_url: SecretStr | None = None  # of the broker that `tingxin consume` reads

    # How vendors reach us and prove themselves; see docs/VENDORS.md. Several secrets, parted by commas,
    # are all in force: that is how one is changed without losing a callback.
    public_url: HttpUrl | None = (
        None  # as vendors see it; unset: what the request's Host header says
    )
    twilio_auth_token: SecretStr | None = None
    huawei_keys: SecretStr | None = None  # AK:SK,…
    vonage_signature_secret: SecretStr | None = None
    vonage_signature_method: Literal["md5hash", "md5", "sha1", "sha256", "sha512"] = "sha256"
    infobip_basic: SecretStr | None = None  # user:password,…
    aws_topics: Annotated[tuple[str, ...], NoDecode] = ()  # the SNS topics we listen to
    # aliyun=203.0.113.0/24,tencent=198.51.100.7: a vendor named here is heard from there only
    vendor_addresses: Annotated[tuple[tuple[VendorName, Network], ...], NoDecode] = ()
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()  # whose X-Forwarded-For counts

    @field_validator("twilio_auth_token", "vonage_signature_secret")
    @classmethod
    def _is_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        # An empty secret would be one that everybody knows.
        if secret is not None and not all(each(secret)):
            raise ValueError("must not be empty; unset it to do without")
        return secret

    @field_validator("huawei_keys", "infobip_basic")
    @classmethod
    def _are_pairs(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            for pair in each(secret):
                name, _, value = pair.partition(":")
                if not name or not value:
                    raise ValueError("must be name:secret, or several parted by commas")
        return secret

    @field_validator("aws_topics", mode="before")
    @classmethod
    def _are_topics(cls, topics: Any) -> Any:
        topics = _parted(topics)
        if not all(str(topic).startswith("arn:") for topic in topics):
            raise ValueError("must be topic ARNs (arn:aws:sns:…), parted by commas")
        return topics

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _are_networks(cls, networks: Any) -> Any:
        return tuple(_network(network) for network in _parted(networks))

    @field_validator("vendor_addresses", mode="before")
    @classmethod
    def _are_vendors_networks(cls, pairs: Any) -> Any:
        if not isinstance(pairs, str):
            return pairs
        read = []
        for pair in _parted(pairs):
            vendor, _, network = pair.partition("=")
            if vendor not in get_args(VendorName):
                raise ValueError(
                    f"must be vendor=network; vendors: {', '.join(get_args(VendorName))}"
                )
            read.append((vendor, _network(network)))
        return tuple(read)

    @field_validator("push_secret")
    @classmethod
    def _is_webhook_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            webhook_secrets(secret)
        return secret

    @field_validator("targets", mode="before")
    @classmethod
    def _reads_file(cls, given: Any) -> Any:
        return read_targets(Path(given), os.environ) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _is_signed(self) -> Self:
        if self.push_url is not None and self.push_secret is None:
            raise ValueError("PUSH_URL needs PUSH_SECRET: unsigned events are not sent")
        if self.push_url is not None and any(t.name == WEBHOOK for t in self.targets):
            raise ValueError(f"PUSH_URL is the target {WEBHOOK!r}; give the one in TARGETS a name")
        return self

    @property
    def all_targets(self) -> tuple[Target, ...]:
        """Every target that changes are pushed to, that of PUSH_URL first."""
        if self.push_url is None or self.push_secret is None:
            return self.targets
        own = WebhookTarget(name=WEBHOOK, url=self.push_url, secret=self.push_secret)
        return (own, *self.targets)

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the database; may hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home / 'tingxin.db'}"


def each(secret: SecretStr | None) -> list[str]:
    """Return the secrets of a setting that may hold several, parted by commas; none if it is unset."""
    if secret is None:
        return []
    return [one.strip() for one in secret.get_secret_value().split(",")]


def _parted(value: Any) -> Any:
    return (
        [one.strip() for one in value.split(",") if one.strip()]
        if isinstance(value, str)
        else value
    )


def _network(text: Any) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError("must be addresses or networks such as 203.0.113.0/24") from None


class _FromEnvironment(BaseSettings, Settings):
    """Settings filled from the environment; `.env` is not read."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=None)


def read_settings() -> Settings:
    """Read the environment; raise SettingsError naming the variable and what is allowed, never its value."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith(SECRET_PREFIX):
            if PREFIX + "TARGETS" not in os.environ:
                raise SettingsError(
                    f"{name} is the secret of a target, and {PREFIX}TARGETS is unset"
                )
            continue
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise SettingsError(f"{name} is no setting of Tingxin; {hint}")
    try:
        return _FromEnvironment()
    except ValidationError as error:
        faults = [
            f"{PREFIX}{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            if fault["loc"]
            else fault["msg"]
            for fault in error.errors(include_input=False, include_url=False)
        ]
        # `from None`: pydantic's own message repeats the value, which may be a secret.
        raise SettingsError("; ".join(faults)) from None
