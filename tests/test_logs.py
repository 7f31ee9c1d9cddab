"""The log goes where it can, and its failure stops nothing."""

import json

import pytest
import structlog

from serving.logs import log_to_stderr


class Broken:
    """A standard error that takes nothing, as on a full disk or when its reader left."""

    def isatty(self) -> bool:
        return False

    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def own_configuration():
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_an_event_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    structlog.get_logger().info("request", status=200)
    assert json.loads(capsys.readouterr().err)["status"] == 200


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Broken())
    log_to_stderr()
    structlog.get_logger().error("batch_failed")
