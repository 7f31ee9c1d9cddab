"""The dossier's one page for people: what was received, decided, done and told, when, and how it is proven."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any

from model.policy import CHINA

KINDS = {
    "reply": "收到回复 reply",
    "verdict": "人工处理 verdict",
    "addition": "加入名单 addition",
    "release": "移出名单 release",
    "import": "导入名单 import",
    "erasure": "删除个人数据 erasure",
    "dossier": "导出材料 dossier",
}
ACTIONS = {
    "suppress": "停发 suppressed",
    "hold": "暂停待确认 held",
    "review": "人工查看 for review",
    "route": "转办 routed",
    "none": "无需处理 none",
}
STYLE = (
    "body{font:14px/1.5 sans-serif;max-width:60em;margin:2em auto}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #999;padding:.2em .5em;"
    "text-align:left;vertical-align:top}code{overflow-wrap:anywhere}"
)
PROOF = (
    "每份凭据的正文取 SHA-256 摘要,再与前一份凭据的哈希相连取 SHA-256,得到本份哈希;chain.txt 依次列出全部凭据的摘要。"
    "因此本材料中的凭据不能被事后更改、插入或删除而不改变链尾哈希。"
    "校验:<code>tingxin receipts verify FILE.zip</code>。",
    "The SHA-256 digest of each receipt's body is joined to the hash before it and hashed again; chain.txt "
    "lists the digests of all receipts in order. None of those here can have been changed, put in or taken out "
    "without another hash at the chain's end. Pushes and texts are as the database had them at the time.",
)


def page(
    subject: dict[str, str],
    at: datetime,
    actor: str,
    bodies: list[dict[str, Any]],
    pushes: list[dict[str, Any]],
    texts: list[dict[str, Any]],
    ends: dict[str, Any],
) -> str:
    """Return the page as HTML; times are Beijing's."""
    about = ", ".join(subject.values()) or "–"
    words = {text["receipt"]: text["text"] for text in texts}
    events = [_event(body, words) for body in bodies]
    told = [
        (
            p["target"] or "–",
            p["state"],
            str(p["attempts"]),
            _time(p["asked_at"]),
            _time(p["delivered_at"]),
        )
        for p in pushes
    ]
    head = ends["head"]
    return "\n".join(
        [
            f'<!doctype html><html lang="zh"><meta charset="utf-8"><title>听信凭据</title><style>{STYLE}</style>',
            "<h1>退订与投诉处理凭据 / Receipts of opt-outs and complaints</h1>",
            f"<p>对象 about: {escape(about)}<br>导出 made: {_time(at.isoformat())}, {escape(actor)}</p>",
            "<h2>经过 / What happened</h2>",
            _table(
                (
                    "时间 time",
                    "事项 what",
                    "处理 action",
                    "理由 reason",
                    "经办 by",
                    "凭据 receipt",
                ),
                events,
            ),
            "<h2>通知发送平台 / Platforms told</h2>",
            _table(
                ("平台 target", "状态 state", "次数 attempts", "收到 asked", "送达 delivered"), told
            ),
            "<h2>证明 / Proof</h2>",
            *(f"<p>{line}</p>" for line in PROOF),
            f"<p>链尾 end of the chain: {head['number']}<br><code>{head['hash']}</code></p></html>\n",
        ]
    )


def _event(body: dict[str, Any], words: dict[str, str]) -> tuple[str, ...]:
    kind = str(body.get("kind", ""))
    what = KINDS.get(kind, kind)
    if body["id"] in words:
        what += f":「{words[body['id']]}」"
    action = body.get("action") or body.get("outcome") or body.get("scope") or ""
    who = body.get("actor") or "tingxin " + str(body.get("bundle", ""))
    when = _time(body.get("received_at") or body["at"])
    return when, what, ACTIONS.get(action, action), str(body.get("reason", "")), who, body["id"]


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{name}" for name in names)
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows]
    return f"<table><tr>{head}{''.join(lines)}</table>"


def _time(text: str | None) -> str:
    """Return a moment in Beijing's time.

    >>> _time("2026-01-01T00:00:00+00:00")
    '2026-01-01 08:00:00'
    """
    if text is None:
        return "–"
    return f"{datetime.fromisoformat(text).astimezone(CHINA):%Y-%m-%d %H:%M:%S}"
