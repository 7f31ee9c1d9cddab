"""`tingxin consume`: the service without its HTTP side, fed by a broker."""

import socket
from typing import Annotated

import typer

from serving.command import fail


def consume(
    url: Annotated[
        str | None,
        typer.Argument(
            help="redis:// nats:// amqp:// kafka://主机 / host; unset: TINGXIN_STREAM_URL",
            show_default=False,
        ),
    ] = None,
    stream: Annotated[
        str, typer.Option(help="流、主题或队列 / stream, subject, queue or topic")
    ] = "replies",
    group: Annotated[str, typer.Option(help="消费组 / consumer group")] = "tingxin",
    vendor: Annotated[str, typer.Option(help="消息体的格式 / whose body it is")] = "generic",
    dead: Annotated[
        str | None,
        typer.Option(help="无法处理的消息去处 / for what cannot be taken; unset: STREAM.dead"),
    ] = None,
    batch: Annotated[int, typer.Option(help="一次处理条数 / messages in hand", min=1)] = 256,
    claim_after: Annotated[
        float,
        typer.Option(
            help="秒;接手其他消费者未完成的消息 / seconds until another's unsettled messages are taken",
            min=0.1,
        ),
    ] = 60.0,
) -> None:
    """从消息流接收回复 / Take replies from Redis Streams, NATS JetStream, RabbitMQ or Kafka."""
    try:
        import anyio

        from serving import streams
    except ImportError:
        fail("缺少 FastStream / FastStream is missing: pip install 'tingxin[stream]'")
    from typing import get_args

    from model.bundle import BundleError
    from serving.consumer import Consumer
    from serving.logs import log_to_stderr
    from serving.service import Service
    from serving.settings import SettingsError, VendorName, read_settings
    from serving.targets import TargetFault

    log_to_stderr()
    if vendor not in get_args(VendorName):
        fail(f"unknown vendor; known: {', '.join(get_args(VendorName))}")
    try:
        settings = read_settings()
        if url is None and settings.stream_url is not None:
            url = settings.stream_url.get_secret_value()
        if url is None:
            fail("请给出 URL 或 TINGXIN_STREAM_URL / give a URL, or set TINGXIN_STREAM_URL")
        service = Service(settings)
    except (SettingsError, BundleError, TargetFault) as error:
        fail(str(error))
    consumer = Consumer(service, vendor)  # type: ignore[arg-type]
    plan = streams.Plan(
        stream, group, dead or f"{stream}.dead", socket.gethostname(), batch, claim_after
    )

    def ready() -> None:
        typer.echo(f"正在接收 / consuming {stream} as {group}", err=True)

    try:
        broker = streams.opened(url, plan, consumer)
    except streams.StreamFault as fault:
        service.store.close()
        fail(str(fault))
    service.start()
    try:
        anyio.run(streams.run, broker, consumer, ready)
    except streams.StreamFault as fault:
        fail(str(fault))
    except Exception as error:  # refused, unknown host, wrong password: each library has its own
        typer.echo(f"消息流出错 / the stream failed: {type(error).__name__}", err=True)
        raise typer.Exit(1) from None
    finally:
        service.stop()
