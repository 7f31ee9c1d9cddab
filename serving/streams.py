"""The brokers whose messages are replies: Redis Streams, NATS JetStream, RabbitMQ, Kafka, all by FastStream.

One class each, the same three things: what has to exist (`prepare`), how messages come (`subscribe`), where
those go that cannot be taken (`bury`). A message is acknowledged, or its offset committed, when its handler
returns, and handlers return when the consumer has settled it and what it cannot take is buried. A handler
that raises leaves the message with the broker.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import anyio
import structlog
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from faststream import AckPolicy, FastStream

from serving.consumer import LONGEST, SHORTEST, Consumer, Message, PutOff

GRACE = 30.0  # seconds that messages in hand have to be settled in, at a stop

log = structlog.get_logger()


class StreamFault(ValueError):
    """A stream cannot be consumed as asked. The text holds no password."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to consume: the stream, subject, queue or topic, the group that shares it, and where the dead go."""

    stream: str
    group: str
    dead: str
    name: str  # of this consumer within the group
    batch: int = 256  # messages in hand at once
    claim_after: float = 60.0  # seconds before another consumer's unsettled messages are taken over


class Broker(Protocol):
    """One broker, by FastStream."""

    broker: Any

    async def prepare(self) -> None:
        """Make what is missing at the connected broker: group, queues, streams."""

    def subscribe(self) -> None:
        """Have messages handed to the consumer."""

    async def bury(self, message: Message, headers: dict[str, str]) -> None:
        """Put a message where the dead go; return once the broker has it."""


class _Handler:
    """Settles messages, then buries those that cannot be taken."""

    def __init__(self, consumer: Consumer, bury: Callable[..., Any], batch: int) -> None:
        self._consumer = consumer
        self._bury = bury
        self._threads = CapacityLimiter(batch)

    async def __call__(self, messages: Sequence[Message]) -> None:
        try:
            faults = await run_sync(self._consumer.take, messages, limiter=self._threads)
        except PutOff:
            if self._consumer.is_stopping:
                raise
            raise SystemExit(1) from None  # the intake died; FastStream ends the consumer
        for message, why in zip(messages, faults, strict=True):
            if why:
                log.warning("message_buried", why=why)
                headers = {"reason": why, "vendor": self._consumer.vendor}
                headers |= {"position": message.position} if message.position else {}
                await self._until_buried(message, headers)

    async def _until_buried(self, message: Message, headers: dict[str, str]) -> None:
        pause = SHORTEST
        while True:
            try:
                await self._bury(message, headers)
                return
            except Exception as error:
                log.error("message_not_buried", error=type(error).__name__)
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST)


async def _as_it_came(message: Any) -> Any:
    """Decode nothing: bodies are the vendors' to read, and a decoder that chokes would block the stream."""
    return message


class Redis:
    """Redis Streams, 6.2 or newer: one entry a message, read by a consumer group."""

    def __init__(self, url: str, plan: Plan, consumer: Consumer) -> None:
        from faststream.redis import RedisBroker

        self.broker = RedisBroker(url, apply_types=False, graceful_timeout=GRACE, logger=_quiet())
        self._plan = plan
        self._handle = _Handler(consumer, self.bury, plan.batch)

    async def prepare(self) -> None:
        from redis.exceptions import ResponseError

        client = await self.broker.connect()
        try:  # from the beginning: what was written before the first start counts too
            await client.xgroup_create(self._plan.stream, self._plan.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def subscribe(self) -> None:
        from faststream.redis import StreamSub

        plan = self._plan
        # New entries, and those that a consumer which died had in hand.
        for claim in (None, int(plan.claim_after * 1000)):
            source = StreamSub(
                plan.stream,
                group=plan.group,
                consumer=plan.name,
                batch=True,
                max_records=plan.batch,
                polling_interval=200 if claim is None else min(claim, 1000),
                min_idle_time=claim,
            )
            self.broker.subscriber(
                stream=source,
                parser=self._parse,
                decoder=_as_it_came,
                ack_policy=AckPolicy.NACK_ON_ERROR,
            )(self.on_entries)

    async def _parse(self, raw: Any, original: Callable[[Any], Any]) -> Any:
        message = await original({**raw, "data": []})  # FastStream's reader chokes on odd fields
        message.raw_message = raw
        return message

    async def on_entries(self, message: Any) -> None:
        raw = message.raw_message
        pairs = zip(raw["message_ids"], raw["data"], strict=True)
        await self._handle(
            [
                Message(_entry(fields), f"{self._plan.stream}/{entry_id.decode()}")
                for entry_id, fields in pairs
            ]
        )

    async def bury(self, message: Message, headers: dict[str, str]) -> None:
        client = await self.broker.connect()
        fields: dict[Any, Any] = {"body": message.body, **headers}
        await client.xadd(self._plan.dead, fields)


def _entry(fields: dict[bytes, bytes]) -> bytes:
    """Return the body in an entry: FastStream's, the field `body`, or the fields themselves as an object.

    >>> _entry({b"body": b"[1]", b"trace": b"x"}), _entry({b"phone": b"13800001001", b"text": b"T"})
    (b'[1]', b'{"phone": "13800001001", "text": "T"}')
    """
    from faststream.redis.parser import BinaryMessageFormatV1

    if b"__data__" in fields:
        return BinaryMessageFormatV1.parse(fields[b"__data__"])[0]
    if b"body" in fields:
        return fields[b"body"]
    texts = {
        k.decode(errors="backslashreplace"): v.decode(errors="backslashreplace")
        for k, v in fields.items()
    }
    return json.dumps(texts, ensure_ascii=False).encode()


class Nats:
    """NATS JetStream: a subject, pulled by a durable consumer that the group shares."""

    def __init__(self, url: str, plan: Plan, consumer: Consumer) -> None:
        from faststream.nats import NatsBroker

        self.broker = NatsBroker(
            url.split(","), apply_types=False, graceful_timeout=GRACE, logger=_quiet()
        )
        self._plan = plan
        self._handle = _Handler(consumer, self.bury, plan.batch)
        self._streams = {name: name.replace(".", "-") for name in (plan.stream, plan.dead)}

    async def prepare(self) -> None:
        from nats.js.errors import NotFoundError

        streams = (await self.broker.connect()).jetstream()
        for subject, name in self._streams.items():
            try:
                self._streams[subject] = await streams.find_stream_name_by_subject(subject)
            except NotFoundError:
                await streams.add_stream(name=name, subjects=[subject])

    def subscribe(self) -> None:
        from faststream.nats import JStream, PullSub
        from nats.js.api import ConsumerConfig

        plan = self._plan
        self.broker.subscriber(
            plan.stream,
            stream=JStream(self._streams[plan.stream], declare=False),
            durable=plan.group,
            config=ConsumerConfig(ack_wait=plan.claim_after),
            pull_sub=PullSub(batch_size=plan.batch, timeout=1.0),
            decoder=_as_it_came,
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )(self.on_message)

    async def on_message(self, message: Any) -> None:
        from nats.errors import NotJSMessageError

        try:
            data = message.raw_message.metadata
        except NotJSMessageError:
            position = ""
        else:  # the time, too: a stream that is made anew counts from 1 again
            position = f"{data.stream}/{data.sequence.stream}/{data.timestamp.isoformat()}"
        await self._handle([Message(message.body, position)])

    async def bury(self, message: Message, headers: dict[str, str]) -> None:
        dead = self._plan.dead
        await self.broker.publish(message.body, dead, headers=headers, stream=self._streams[dead])


class Rabbit:
    """RabbitMQ: a queue that the consumers share; it is the group."""

    def __init__(self, url: str, plan: Plan, consumer: Consumer) -> None:
        from faststream.rabbit import Channel, RabbitBroker

        self.broker = RabbitBroker(
            url,
            apply_types=False,
            graceful_timeout=GRACE,
            logger=_quiet(),
            default_channel=Channel(prefetch_count=plan.batch),
        )
        self._plan = plan
        self._handle = _Handler(consumer, self.bury, plan.batch)

    async def prepare(self) -> None:
        from aio_pika.exceptions import ChannelNotFoundEntity

        connection = await self.broker.connect()
        for name in (self._plan.stream, self._plan.dead):
            # A queue that is there may have any arguments; to declare it with others is an error.
            channel = await connection.channel()
            try:
                await channel.declare_queue(name, passive=True)
            except ChannelNotFoundEntity:
                channel = await connection.channel()
                await channel.declare_queue(name, durable=True)
            await channel.close()

    def subscribe(self) -> None:
        from faststream.rabbit import RabbitQueue

        self.broker.subscriber(
            RabbitQueue(self._plan.stream, declare=False),
            decoder=_as_it_came,
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )(self.on_message)

    async def on_message(self, message: Any) -> None:
        own = message.raw_message.message_id  # the producer's; RabbitMQ itself numbers nothing
        await self._handle([Message(message.body, f"{self._plan.stream}/{own}" if own else "")])

    async def bury(self, message: Message, headers: dict[str, str]) -> None:
        await self.broker.publish(message.body, self._plan.dead, headers={**headers}, persist=True)


class Kafka:
    """Kafka: a topic, whose partitions the group shares out."""

    def __init__(self, url: str, plan: Plan, consumer: Consumer) -> None:
        from faststream.kafka import KafkaBroker
        from faststream.security import BaseSecurity, SASLPlaintext

        scheme, rest = url.split("://", 1)
        credentials, _, hosts = rest.rpartition("@")
        user, _, password = credentials.partition(":")
        encrypted = scheme == "kafkas"
        security = (
            SASLPlaintext(unquote(user), unquote(password), use_ssl=encrypted)
            if credentials
            else BaseSecurity(use_ssl=encrypted)
        )
        self.broker = KafkaBroker(
            hosts.rstrip("/").split(","),
            security=security,
            apply_types=False,
            graceful_timeout=GRACE,
            logger=_quiet(),
        )
        self._plan = plan
        self._handle = _Handler(consumer, self.bury, plan.batch)

    async def prepare(self) -> None:
        """FastStream makes the topic; the dead letters' is made by the first, as the cluster's settings say."""

    def subscribe(self) -> None:
        self.broker.subscriber(
            self._plan.stream,
            group_id=self._plan.group,
            auto_offset_reset="earliest",
            batch=True,
            max_records=self._plan.batch,
            parser=self._parse,
            decoder=_as_it_came,
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )(self.on_records)

    async def _parse(self, records: Any, original: Callable[[Any], Any]) -> Any:
        # Headers may be any bytes; FastStream's reader chokes on what is not UTF-8.
        return await original(tuple(replace(record, headers=()) for record in records))

    async def on_records(self, message: Any) -> None:
        await self._handle(
            [
                Message(r.value or b"", f"{r.topic}/{r.partition}/{r.offset}/{r.timestamp}")
                for r in message.raw_message
            ]
        )

    async def bury(self, message: Message, headers: dict[str, str]) -> None:
        await self.broker.publish(message.body, self._plan.dead, headers=headers)


BROKERS: dict[str, type[Redis] | type[Nats] | type[Rabbit] | type[Kafka]] = {
    "redis": Redis,
    "rediss": Redis,
    "nats": Nats,
    "tls": Nats,
    "amqp": Rabbit,
    "amqps": Rabbit,
    "kafka": Kafka,
    "kafkas": Kafka,
}


def opened(url: str, plan: Plan, consumer: Consumer) -> Broker:
    """Return the broker that a URL names, not yet connected; raise StreamFault."""
    scheme = urlsplit(url.split(",")[0]).scheme
    if scheme not in BROKERS or "://" not in url:
        raise StreamFault(f"the URL begins with none of {', '.join(f'{s}://' for s in BROKERS)}")
    try:
        return BROKERS[scheme](url, plan, consumer)
    except ImportError as missing:
        raise StreamFault(
            f"{missing.name or 'FastStream'} is missing: pip install 'tingxin[stream]'"
        ) from None


async def run(broker: Broker, consumer: Consumer, ready: Callable[[], None]) -> None:
    """Consume until SIGTERM or SIGINT; what is in hand is settled first, what waits is put off.

    Raises StreamFault if it ends otherwise.
    """
    await broker.broker.connect()
    await broker.prepare()
    broker.subscribe()

    ended: list[Any] = []

    async def stop() -> None:
        # Before a signal's stop all subscribers run; one that does not has ended for a fault of its own.
        ended.extend(s for s in broker.broker.subscribers if not s.running)
        consumer.stop()

    async def started() -> None:
        ready()

    app = FastStream(broker.broker, logger=_quiet(), after_startup=[started], on_shutdown=[stop])
    await app.run()
    if ended:
        raise StreamFault("the stream or its group is gone, or the intake stopped")


class _Reduced(logging.Handler):
    """Logs that something is wrong and of which class: a library's own words may hold a message or a URL."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, PutOff):
            log.error("stream_fault", error=type(error).__name__ if error else record.levelname)


def _quiet() -> logging.Logger:
    logger = logging.Logger("tingxin.stream", logging.WARNING)  # ours alone: not the process's tree
    logger.addHandler(_Reduced())
    return logger
