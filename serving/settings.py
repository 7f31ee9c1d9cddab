"""The environment, read once: `TINGXIN_*` → a frozen `Settings`. No other file reads the environment."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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
    brand_list: str = Field(default="default", pattern=r"^[\w.-]{1,50}$")
    phone_key: SecretStr | None = None  # unset: a file under home, made at the first start
    list_numbers: Literal["sealed", "masked"] = "sealed"  # "masked": the list cannot be exported
    max_body_bytes: int = Field(default=8 * 2**20, ge=1024)
    intake_capacity: int = Field(default=10_000, ge=1)  # replies waiting; beyond it callers get 429

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
