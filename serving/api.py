"""The HTTP application: `create_app(settings)` → FastAPI, with its service started and stopped by it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from model.classifier import Classifier
from serving import problems
from serving.middleware import BodyLimit, RequestLog, SecurityHeaders
from serving.routes import health, inbound, pushes, queue, replies, suppressions, templates
from serving.service import Service
from serving.settings import Settings
from serving.traces import RequestTrace

THREADS = 100


def create_app(settings: Settings, classifier: Classifier | None = None) -> FastAPI:
    """Return the application; `classifier` is for tests and embedders, else the bundle is loaded at start."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(settings, classifier)
        service.start()
        # Each caller whose reply waits for its commit holds one; the more there are, the fuller the batches.
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        app.state.service = service
        yield
        service.stop()

    app = FastAPI(
        title="Tingxin 听信 / 停信",
        summary="Understands replies, stops messages",
        lifespan=lifespan,
        # The interactive pages fetch scripts from elsewhere; nothing here asks the outside world.
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        responses=problems.RESPONSES,
    )
    problems.install(app)
    for module in (replies, inbound, suppressions, queue, templates, pushes, health):
        app.include_router(module.router)
    streamed = {suppressions.IMPORT: settings.max_import_bytes}
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes, streamed=streamed)
    app.add_middleware(RequestLog)
    app.add_middleware(RequestTrace)
    app.add_middleware(SecurityHeaders)
    return app
