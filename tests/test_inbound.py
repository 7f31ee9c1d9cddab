"""Each vendor end to end: its callback is posted, the person is on the list, the vendor hears its own answer."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import SecretStr
from structlog.testing import capture_logs

from model.classifier import Classifier
from serving import auth
from serving.api import create_app
from serving.events import Callback, Unproven, VendorUnavailable
from serving.settings import Settings
from serving.store import Store
from serving.vendors import vendors
from serving.vendors.aws import Aws
from serving.vendors.huawei import signature as huawei_signature
from serving.vendors.twilio import signature as twilio_signature
from serving.vendors.vonage import signature as vonage_signature

BASE = "https://replies.example"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:replies"
FORM = {"content-type": "application/x-www-form-urlencoded"}
SECRETS = {
    "public_url": BASE,
    "twilio_auth_token": SecretStr("token"),
    "huawei_keys": SecretStr("ak:sk"),
    "vonage_signature_secret": SecretStr("secret"),
    "infobip_basic": SecretStr("user:password"),
    "aws_topics": (TOPIC,),
}


@pytest.fixture
def key(settings: Settings) -> str:
    store = Store.open(settings)
    with store.write() as connection:
        made = auth.create(connection, "vendor", ["ingest", "read"])
    store.close()
    return made


Serve = Callable[..., TestClient]


@pytest.fixture
def serve(settings: Settings, classifier: Classifier, key: str) -> Iterator[Serve]:
    """Start a service with settings: `serve(twilio_auth_token=…)`."""
    opened: list[TestClient] = []

    def start(peer: str = "203.0.113.9", **change: object) -> TestClient:
        app = create_app(settings.model_copy(update=change), classifier)
        client = TestClient(app, client=(peer, 5000))
        opened.append(client.__enter__())
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


def is_suppressed(client: TestClient, key: str, phone: str) -> bool:
    headers = {"x-api-key": key}
    answer = client.post("/v1/suppressions/check", json={"phones": [phone]}, headers=headers).json()
    return bool(answer["results"][0]["suppressed"])


def stored(client: TestClient, key: str) -> int:
    counts = client.get("/v1/stats", headers={"x-api-key": key}).json()["replies"]
    return sum(counts.values())


class Sns(Aws):
    """SNS with its certificate left out of the play; test_vendor_aws.py is about it."""

    def verify(self, callback: Callback) -> None:
        if callback.headers.get("x-forged"):
            raise Unproven("the signature is wrong")


def trust_sns(client: TestClient, fetch: Callable[[str], bytes] = lambda _: b"") -> list[str]:
    """Let the client's service take what SNS would sign; return the list of URLs it visits."""
    visited: list[str] = []

    def visit(url: str) -> bytes:
        visited.append(url)
        return fetch(url)

    client.app.state.service.vendors["aws"] = Sns((TOPIC,), visit)  # type: ignore[attr-defined]
    return visited


def aliyun(client: TestClient, key: str, phone: str, text: str) -> Response:
    entry = {"phone_number": phone, "content": text, "sequence_id": "1"}
    return client.post(f"/v1/inbound/aliyun/{key}", json=[entry])


def tencent(client: TestClient, key: str, phone: str, text: str) -> Response:
    body = {"extend": "", "mobile": phone, "nationcode": "86", "sign": "某某", "text": text}
    return client.post(f"/v1/inbound/tencent/{key}", json=body | {"time": 1788228000})


def huawei(client: TestClient, key: str, phone: str, text: str) -> Response:
    body = urlencode({"from": f"+86{phone}", "to": "1", "body": text, "smsMsgId": "m-1"}).encode()
    at = datetime.now(UTC)
    headers = FORM | {"x-sdk-date": f"{at:%Y%m%dT%H%M%SZ}"}
    callback = Callback("POST", f"{BASE}/v1/inbound/huawei", headers, body, at)
    mark = huawei_signature(callback, ["host", "x-sdk-date"], "sk")
    headers["authorization"] = (
        f"SDK-HMAC-SHA256 Access=ak, SignedHeaders=host;x-sdk-date, Signature={mark}"
    )
    return client.post("/v1/inbound/huawei", content=body, headers=headers)


def twilio(client: TestClient, key: str, phone: str, text: str, **more: str) -> Response:
    fields = {"MessageSid": "SM1", "From": f"+86{phone}", "To": "+18005551212", "Body": text} | more
    mark = twilio_signature("token", f"{BASE}/v1/inbound/twilio", list(fields.items()))
    headers = FORM | {"x-twilio-signature": mark}
    return client.post("/v1/inbound/twilio", content=urlencode(fields), headers=headers)


def infobip(client: TestClient, key: str, phone: str, text: str) -> Response:
    result = {"messageId": "m-1", "from": f"86{phone}", "to": "1", "text": text}
    headers = {"authorization": "Basic " + base64.b64encode(b"user:password").decode()}
    return client.post("/v1/inbound/infobip", json={"results": [result]}, headers=headers)


def vonage_fields(phone: str, text: str, **more: str) -> dict[str, str]:
    fields = {"msisdn": f"86{phone}", "to": "1", "messageId": "m-1", "text": text} | more
    return fields | {"sig": vonage_signature(fields, "secret", "sha256")}


def vonage(client: TestClient, key: str, phone: str, text: str) -> Response:
    return client.get("/v1/inbound/vonage", params=vonage_fields(phone, text))


def aws(client: TestClient, key: str, phone: str, text: str) -> Response:
    trust_sns(client)
    message = {"originationNumber": f"+86{phone}", "messageBody": text, "inboundMessageId": "m-1"}
    return client.post("/v1/inbound/aws", content=notification(message))


def notification(message: object, **change: str) -> bytes:
    envelope = {
        "Type": "Notification",
        "MessageId": "n-1",
        "TopicArn": TOPIC,
        "Timestamp": "2026-09-01T02:00:00.000Z",
        "Message": json.dumps(message),
    }
    return json.dumps(envelope | change).encode()


def generic(client: TestClient, key: str, phone: str, text: str) -> Response:
    body = {"id": "1", "phone": phone, "text": text}
    return client.post("/v1/inbound/generic", json=body, headers={"x-api-key": key})


Post = Callable[[TestClient, str, str, str], Response]
VENDORS: list[tuple[Post, str, bytes]] = [
    (aliyun, "application/json", '{"code":0,"msg":"接收成功"}'.encode()),
    (tencent, "application/json", b'{"result":0,"errmsg":"OK"}'),
    (huawei, "text/plain; charset=utf-8", b""),
    (twilio, "text/xml; charset=utf-8", b'<?xml version="1.0" encoding="UTF-8"?><Response/>'),
    (infobip, "text/plain; charset=utf-8", b""),
    (vonage, "text/plain; charset=utf-8", b""),
    (aws, "text/plain; charset=utf-8", b""),
    (generic, "application/json", b'{"accepted":true}'),
]


def test_no_vendor_is_left_out(settings: Settings) -> None:
    assert {post.__name__ for post, _, _ in VENDORS} == set(vendors(settings))


@pytest.mark.parametrize(("post", "media_type", "body"), VENDORS)
def test_a_callback_suppresses_and_is_answered_in_the_vendors_form_and_once(
    serve: Serve, key: str, post: Post, media_type: str, body: bytes
) -> None:
    client = serve(**SECRETS)
    for _ in range(2):  # the vendor did not hear us, and sends it again
        answer = post(client, key, "13800001001", "请别再发了")
        assert (answer.status_code, answer.content) == (200, body)
        assert answer.headers["content-type"] == media_type
    assert is_suppressed(client, key, "13800001001")
    assert stored(client, key) == 1


SIGNED = [
    ("huawei", {"from": "+8613800001001", "body": "START"}),
    ("twilio", {"From": "+8613800001001", "Body": "START"}),
    ("vonage", {"msisdn": "8613800001001", "text": "START"}),
    ("infobip", {}),
    ("aws", {}),
]


@pytest.mark.parametrize(("vendor", "fields"), SIGNED)
def test_a_callback_without_proof_is_refused_whatever_it_says(
    serve: Serve, key: str, vendor: str, fields: dict[str, str]
) -> None:
    client = serve(**SECRETS)
    trust_sns(client)
    body = notification({}) if vendor == "aws" else urlencode(fields).encode()
    with capture_logs() as logs:
        # A key does not stand in for a signature.
        for path in (f"/v1/inbound/{vendor}", f"/v1/inbound/{vendor}/{key}"):
            refused = client.post(path, content=body, headers=FORM | {"x-forged": "1"})
            assert refused.status_code == 401
            assert refused.json()["type"] == "urn:tingxin:problem:unproven"
            assert refused.headers["www-authenticate"] in ("Signature", "Basic")
    assert [e["vendor"] for e in logs if e["event"] == "callback_unproven"] == [vendor] * 2
    assert "1380000" not in str(logs)
    assert stored(client, key) == 0


def test_a_signature_does_not_stand_in_for_a_revoked_key(serve: Serve) -> None:
    client = serve(**SECRETS)
    fields = {"From": "+8613800001001", "Body": "T"}
    mark = twilio_signature("token", f"{BASE}/v1/inbound/twilio/tx_1_x", list(fields.items()))
    headers = FORM | {"x-twilio-signature": mark}
    refused = client.post("/v1/inbound/twilio/tx_1_x", content=urlencode(fields), headers=headers)
    assert refused.json()["type"] == "urn:tingxin:problem:unauthorized"


@pytest.mark.parametrize(
    ("vendor", "setting"), [("twilio", "TINGXIN_TWILIO_AUTH_TOKEN"), ("aws", "TINGXIN_AWS_TOPICS")]
)
def test_a_vendor_without_its_secret_is_closed_and_says_so_at_the_start(
    serve: Serve, key: str, vendor: str, setting: str
) -> None:
    with capture_logs() as logs:
        client = serve()
    assert {"vendor": vendor, "missing": setting}.items() <= next(
        e for e in logs if e["event"] == "vendor_not_set_up" and e["vendor"] == vendor
    ).items()
    for path in (f"/v1/inbound/{vendor}", f"/v1/inbound/{vendor}/{key}"):
        refused = client.post(path, content=b"From=%2B8613800001001&Body=T", headers=FORM)
        assert (refused.status_code, refused.json()["detail"]) == (503, f"{setting} is not set")


@pytest.mark.parametrize("vendor", ["huawei", "vonage", "infobip", "tencent", "aliyun", "generic"])
def test_where_nothing_is_signed_a_key_has_to_be_brought(
    serve: Serve, key: str, vendor: str
) -> None:
    client = serve()
    assert client.post(f"/v1/inbound/{vendor}", content=b"{}").status_code == 401
    assert client.post(f"/v1/inbound/{vendor}/tx_1_wrong", content=b"{}").status_code == 401
    assert client.post(f"/v1/inbound/{vendor}/{key}", content=b"{").status_code == 400


def test_unsigned_vonage_by_its_key_in_path_or_query(serve: Serve, key: str) -> None:
    client = serve()
    fields = {"msisdn": "8613800001001", "to": "1", "messageId": "m", "text": "T"}
    assert client.get(f"/v1/inbound/vonage/{key}", params=fields).status_code == 200
    again = client.get("/v1/inbound/vonage", params=fields | {"key": key})
    assert again.status_code == 200
    assert stored(client, key) == 1


def test_a_vendor_that_posts_is_not_heard_by_get(serve: Serve, key: str) -> None:
    refused = serve().get(f"/v1/inbound/aliyun/{key}")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_twilio_behind_a_proxy_is_known_by_the_public_url(serve: Serve, key: str) -> None:
    hidden = serve(twilio_auth_token=SecretStr("token"))  # the client calls http://testserver
    refused = twilio(hidden, key, "13800001001", "T")
    assert (refused.status_code, "TINGXIN_PUBLIC_URL" in refused.text) == (401, True)
    shown = serve(twilio_auth_token=SecretStr("token"), public_url=BASE + "/")
    assert twilio(shown, key, "13800001001", "T").status_code == 200


def test_what_twilio_took_for_stop_is_on_our_list_too(serve: Serve, key: str) -> None:
    client = serve(**SECRETS)
    assert twilio(client, key, "13800001001", "arrêt", OptOutType="STOP").status_code == 200
    assert is_suppressed(client, key, "13800001001")
    change = {"MessageSid": "SM2", "OptOutType": "START"}
    assert twilio(client, key, "13800001001", "reprendre", **change).status_code == 200
    assert not is_suppressed(client, key, "13800001001")
    help_ = {"MessageSid": "SM3", "OptOutType": "HELP"}
    assert twilio(client, key, "13800001001", "aide", **help_).status_code == 200
    assert not is_suppressed(client, key, "13800001001")


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_long_vonage_message_is_read_when_its_parts_are_there(
    serve: Serve, key: str, order: tuple[int, int]
) -> None:
    client = serve(**SECRETS)
    for seen, number in enumerate(order):
        assert not is_suppressed(client, key, "13800001001")
        assert stored(client, key) == 0, seen
        concat = {"concat": "true", "concat-ref": "7", "concat-total": "2"}
        concat |= {"concat-part": str(number), "messageId": f"m-{number}"}
        text = "请你们以后别" if number == 1 else "再发了"
        fields = vonage_fields("13800001001", text, **concat)
        answer = client.post("/v1/inbound/vonage", json=fields)
        assert (answer.status_code, answer.content) == (200, b"")
    assert is_suppressed(client, key, "13800001001")


def test_a_subscription_of_sns_is_confirmed_once_it_can_be(serve: Serve) -> None:
    client = serve(**SECRETS)
    subscribe = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
    change = {"Type": "SubscriptionConfirmation", "SubscribeURL": subscribe, "Token": "t"}
    envelope = notification({}, **change)

    def down(_: str) -> bytes:
        raise VendorUnavailable("SNS answered HTTP 500")

    trust_sns(client, down)
    put_off = client.post("/v1/inbound/aws", content=envelope)
    assert (put_off.status_code, put_off.headers["retry-after"]) == (503, "5")
    visited = trust_sns(client)
    assert client.post("/v1/inbound/aws", content=envelope).status_code == 200
    assert visited == [subscribe]


def test_an_allow_list_holds_for_its_vendor_only(serve: Serve, key: str) -> None:
    lists = (("aliyun", ip_network("198.51.100.0/24")), ("aliyun", ip_network("192.0.2.1")))
    client = serve(vendor_addresses=lists)
    refused = aliyun(client, key, "13800001001", "T")
    assert (refused.status_code, "TINGXIN_VENDOR_ADDRESSES" in refused.text) == (401, True)
    assert stored(client, key) == 0
    assert tencent(client, key, "13800001001", "T").status_code == 200
    for peer in ("198.51.100.7", "192.0.2.1"):
        allowed = serve(peer=peer, vendor_addresses=lists)
        assert aliyun(allowed, key, "13800001001", "T").status_code == 200


def test_a_forwarded_address_counts_from_a_trusted_proxy_only(serve: Serve, key: str) -> None:
    lists = {"vendor_addresses": (("aliyun", ip_network("198.51.100.0/24")),)}
    body = [{"phone_number": "13800001001", "content": "T", "sequence_id": "1"}]

    def status(client: TestClient, forwarded: str) -> int:
        headers = {"x-forwarded-for": forwarded}
        return client.post(f"/v1/inbound/aliyun/{key}", json=body, headers=headers).status_code

    assert status(serve(**lists), "198.51.100.7") == 401
    trusting = serve(**lists, trusted_proxies=(ip_network("203.0.113.0/24"),))
    assert status(trusting, "198.51.100.7") == 200
    assert status(trusting, "198.51.100.7, 192.0.2.66") == 401
    assert status(serve(peer="testclient", **lists), "198.51.100.7") == 401


def test_a_host_that_is_none_is_an_error_and_no_crash(serve: Serve, key: str) -> None:
    refused = serve().get(f"/v1/inbound/vonage/{key}", headers={"host": "[x"})
    assert refused.status_code == 400


def templates(client: TestClient, key: str, method: str, path: str = "", **body: Any) -> Response:
    headers = {"x-api-key": key}
    return client.request(method, f"/v1/templates{path}", json=body or None, headers=headers)


def test_a_template_is_registered_listed_quoted_and_removed(
    serve: Serve, settings: Settings, key: str
) -> None:
    store = Store.open(settings)
    with store.write() as connection:
        admin = auth.create(connection, "admin", ["admin"])
    store.close()
    client = serve()
    text = "【某某】${name},全场五折,别再发愁,退订回T"
    assert templates(client, key, "POST", text=text, actor="李雷").status_code == 403
    added = templates(client, admin, "POST", text=text, actor="李雷")
    assert added.status_code == 201
    assert templates(client, admin, "GET").json()["templates"] == [added.json()]
    short = templates(client, admin, "POST", text="退订回T", actor="李雷")
    assert (short.status_code, "12 characters" in short.json()["detail"]) == (422, True)

    quoted = text.replace("${name}", "张三")
    assert aliyun(client, key, "13800001001", quoted).status_code == 200
    assert not is_suppressed(client, key, "13800001001")
    assert tencent(client, key, "13800001001", f"{quoted} TD").status_code == 200
    assert is_suppressed(client, key, "13800001001")

    path = f"/{added.json()['id']}"
    assert templates(client, admin, "DELETE", path).status_code == 204
    assert templates(client, admin, "DELETE", path).status_code == 404
