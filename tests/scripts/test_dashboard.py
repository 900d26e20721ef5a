"""Every metric that the dashboard shows is one that a gateway tells."""

from __future__ import annotations

import json
import re

from prometheus_client.parser import text_string_to_metric_families

from gateway.dispatch.stats.metrics import HOST_GAUGES, WORKER_GAUGES
from tests.processes import ROOT, serving

DASHBOARD = ROOT / "scripts" / "grafana" / "dashboard.json"
OF_HOSTS = {f"host_{name}" for name in HOST_GAUGES}
"""Told where there is a host (`tests/gateway/dispatch/stats/test_metrics.py`)."""

METRIC = re.compile(r"\b(?:gateway|worker|host)_[a-z_]+\b")


def shown_metrics() -> set[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    return {name for expression in expressions for name in METRIC.findall(expression)}


def test_every_metric_of_the_dashboard_is_told() -> None:
    with serving() as service:
        service.script(tokens=2)
        text = service.client.get(f"{service.url}/metrics").text
    families = list(text_string_to_metric_families(text))
    told = {sample.name for family in families for sample in family.samples}
    assert shown_metrics() - told - OF_HOSTS == set()


def test_every_gauge_of_a_worker_or_host_is_shown() -> None:
    assert {f"worker_{name}" for name in WORKER_GAUGES} | OF_HOSTS <= shown_metrics()
