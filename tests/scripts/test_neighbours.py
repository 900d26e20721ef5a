"""nginx, Caddy and Prometheus, as docs/operations.md has them, in front of and beside a gateway."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import ROOT, Service, answer_text, serving
from tests.scripted import scripted, words
from tests.waiting import await_condition, free_port

NAME = "ai.example.com"
CURVE = ("-pkeyopt", "ec_paramgen_curve:prime256v1")
LARGE_BYTES = 20_000_000
STREAM_S = 0.5
SILENT = re.compile(r"worker_proven == 0|.*\bhost_")
"""Of panels that are empty while nothing is wrong, and where no host with a catalogue is."""

Proxy = Callable[[Service, Path], AbstractContextManager[str]]
PATH = f"{os.environ['PATH']}:/usr/sbin"

NGINX = """\
user {user};
daemon off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
access_log off;
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
uwsgi_temp_path {folder}/uwsgi;
scgi_temp_path {folder}/scgi;
{block}
}}
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(gateway_flags=("--allowed-host", NAME)) as running:
        yield running


def block(language: str, service: Service, **changes: str) -> str:
    """The page's block for this service, with other changes that a machine without the name asks
    for; each must be there."""
    page = (ROOT / "docs" / "operations.md").read_text()
    found = page.partition(f"```{language}\n")[2].partition("```")[0]
    for old, new in {"127.0.0.1:8000": service.url.removeprefix("http://"), **changes}.items():
        assert old in found
        found = found.replace(old, new)
    return found


def program(name: str) -> str:
    path = shutil.which(name, path=PATH)
    if path is None:
        pytest.skip(f"needs {name} (Debian: apt-get install {name})")
    return path


def client_of(url: str) -> httpx.Client:
    """A client that calls the proxy by its name, which only this test knows."""
    port = url.rpartition(":")[2]

    def ask_for_its_name(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = NAME

    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return httpx.Client(
        base_url=f"https://localhost:{port}",
        headers={"Host": f"{NAME}:{port}"},
        verify=trusting,
        event_hooks={"request": [ask_for_its_name]},
        timeout=30,
        trust_env=False,
    )


def ask(client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/chat/completions", json=body)


def answers(client: httpx.Client, path: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get(path).is_success
    return False


def spread_s(client: httpx.Client) -> float:
    """Seconds between the first event of a stream and its last."""
    body = scripted(stream=True, tokens=20, delay_s=STREAM_S / 20)
    with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        times = [time.monotonic() for line in reply.iter_lines() if line.startswith("data: ")]
    return times[-1] - times[0]


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield
    except BaseException:
        print((folder / "log").read_text())
        raise
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def nginx(service: Service, folder: Path) -> Iterator[str]:
    port, certificate = free_port(), folder / "certificate"
    subject = (
        "-subj",
        f"/CN={NAME}",
        "-keyout",
        f"{certificate}.key",
        "-out",
        f"{certificate}.pem",
    )
    make = [program("openssl"), "req", "-x509", "-newkey", "ec", *CURVE, "-nodes", *subject]
    subprocess.run(make, check=True, capture_output=True)
    text = block(
        "nginx", service, **{"443": f"127.0.0.1:{port}", f"/etc/ssl/{NAME}": f"{certificate}"}
    )
    (folder / "nginx.conf").write_text(
        NGINX.format(user=getpass.getuser(), folder=folder, block=text)
    )
    with running([program("nginx"), "-c", f"{folder}/nginx.conf", "-p", f"{folder}"], folder):
        yield f"https://127.0.0.1:{port}"


@contextlib.contextmanager
def caddy(service: Service, folder: Path) -> Iterator[str]:
    port = free_port()
    text = block("caddy", service, **{f"{NAME} {{": f"https://{NAME}:{port} {{\ntls internal"})
    options = "{\nadmin off\nskip_install_trust\nauto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(options + text)
    with running([program("caddy"), "run", "--config", f"{folder}/Caddyfile"], folder):
        yield f"https://127.0.0.1:{port}"


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_a_reverse_proxy_changes_nothing(proxy: Proxy, service: Service, tmp_path: Path) -> None:
    with proxy(service, tmp_path) as url, client_of(url) as client:
        await_condition(lambda: answers(client, "/health"), "the proxy's start")
        assert answer_text(ask(client, scripted(tokens=3))) == words(3)
        refused = ask(client, {**scripted(tokens=1), "padding": "x" * LARGE_BYTES})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "padding"
        assert refused.headers["x-request-id"]
        assert ask(client, {**scripted(tokens=1), "model": "nobody"}).status_code == 404
        assert client.get("/").headers["content-type"].startswith("text/html")
        command = f"curl https://{client.headers['host']}/v1/chat/completions"
        assert command in client.get("/docs").text
        with client.stream("GET", "/v1/status/stream") as figures:
            assert next(figures.iter_lines()) == "event: history"
        assert spread_s(client) > STREAM_S / 2


def test_prometheus_knows_what_every_panel_asks(service: Service, tmp_path: Path) -> None:
    port = free_port()
    text = (ROOT / "scripts" / "prometheus.yml").read_text()
    for old, new in (("127.0.0.1:8000", service.url.removeprefix("http://")), (" 5s", " 200ms")):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "prometheus.yml").write_text(text)
    flags = (
        "config.file=prometheus.yml",
        "storage.tsdb.path=data",
        f"web.listen-address=127.0.0.1:{port}",
    )
    command = [program("prometheus"), *(f"--{flag}" for flag in flags)]
    service.script(tokens=2)
    with running(command, tmp_path), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:

        def series(expression: str) -> list[object]:
            reply = client.get("/api/v1/query", params={"query": expression})
            assert reply.is_success, reply.text
            return list(reply.json()["data"]["result"])

        await_condition(lambda: answers(client, "/-/ready"), "the start")
        await_condition(lambda: series("rate(gateway_requests_total[2s])"), "two scrapes")
        dashboard = json.loads((ROOT / "scripts" / "grafana" / "dashboard.json").read_text())
        for target in (one for panel in dashboard["panels"] for one in panel["targets"]):
            expression = target["expr"].replace("$__rate_interval", "10s")
            assert series(expression) or SILENT.match(expression), expression
