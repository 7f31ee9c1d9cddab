"""The HTTP application: `create_app(settings)` → FastAPI, with its service started and stopped by it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from model.classifier import Classifier
from serving import problems
from serving.middleware import BodyLimit, RequestLog
from serving.routes import health, pushes, queue, replies, suppressions
from serving.service import Service
from serving.settings import Settings


def create_app(settings: Settings, classifier: Classifier | None = None) -> FastAPI:
    """Return the application; `classifier` is for tests and embedders, else the bundle is loaded at start."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(settings, classifier)
        service.start()
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
    )
    problems.install(app)
    for router in (replies.router, suppressions.router, queue.router, pushes.router, health.router):
        app.include_router(router)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(RequestLog)
    return app
