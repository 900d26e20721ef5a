"""What the log says of a gateway that answers, and of one that does not."""

from __future__ import annotations

import pytest
import zmq

from shared.messages import Welcome
from tests.waiting import free_port
from worker.link.connection import GatewayConnection
from worker.settings import Settings


def test_the_log_says_once_that_no_gateway_answers_and_when_one_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    with zmq.Context() as context:
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        connection = GatewayConnection.open(context, 0, endpoint, Settings())
        for now in (100.0, 104.0, 106.0, 200.0):
            connection.due("ready", now)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert endpoint in caplog.text
        for _ in range(2):  # the second after the model has loaded
            connection.welcomed(Welcome(gateway="a", heartbeat_s=1.0))
        assert caplog.text.count("connected to gateway") == 1
        connection.forget()
        connection.due("ready", 300.0)
        connection.due("ready", 306.0)
        assert caplog.text.count("no gateway answers") == 2
        connection.socket.close()
