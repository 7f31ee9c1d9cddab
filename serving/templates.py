"""The operator's own templates: kept in the database, so that every process subtracts the same ones."""

import time
from threading import Lock
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from model.rules import Rules
from serving import tables
from serving.echoes import Echoes, Template
from serving.store import Store, now

MOST = 1000
_LOOKED_AFTER = 1.0  # seconds; another process may have changed them


class TooManyTemplates(RuntimeError):
    """There are MOST templates already."""


class Templates:
    """The registered templates, and the filter made of them."""

    def __init__(self, store: Store, rules: Rules) -> None:
        self._store = store
        self._rules = rules
        self._lock = Lock()
        self._looked_at = float("-inf")
        self._known: dict[str, str] = {}
        self._echoes = Echoes(rules, {})

    def add(self, text: str, actor: str) -> dict[str, Any]:
        """Register a template and return it; raise TemplateFault or TooManyTemplates."""
        Template.of(text)
        t = tables.templates
        with self._store.write() as connection:
            count = connection.scalar(sa.select(sa.func.count()).select_from(t))
            if count is not None and count >= MOST:
                raise TooManyTemplates(f"there are {MOST} templates; remove one first")
            row = {"id": f"tp_{uuid4().hex}", "text": text, "actor": actor, "created_at": now()}
            connection.execute(t.insert(), row)
        self._look_again()
        return row

    def remove(self, template_id: str) -> bool:
        """Remove a template; say whether it was there."""
        t = tables.templates
        with self._store.write() as connection:
            removed = connection.execute(t.delete().where(t.c.id == template_id)).rowcount
        self._look_again()
        return bool(removed)

    def listing(self) -> list[dict[str, Any]]:
        """Return all templates, oldest first."""
        t = tables.templates
        with self._store.read() as connection:
            rows = connection.execute(sa.select(t).order_by(t.c.created_at, t.c.id))
            return [dict(row._mapping) for row in rows]

    def echoes(self) -> Echoes:
        """Return the filter for the templates as they were at most a second ago."""
        with self._lock:
            if time.monotonic() - self._looked_at > _LOOKED_AFTER:
                known = {row["id"]: row["text"] for row in self.listing()}
                if known != self._known:
                    self._known, self._echoes = known, Echoes(self._rules, known)
                self._looked_at = time.monotonic()
            return self._echoes

    def _look_again(self) -> None:
        with self._lock:
            self._looked_at = float("-inf")
