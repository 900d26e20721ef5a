"""Every metric that the dashboard shows is one that a gateway tells."""

from __future__ import annotations

import json
import re

from prometheus_client.parser import text_string_to_metric_families

from gateway.dispatch.stats.metrics import WORKER_GAUGES
from tests.processes import ROOT, serving

DASHBOARD = ROOT / "scripts" / "grafana" / "dashboard.json"
METRIC = re.compile(r"\b(?:gateway|worker)_[a-z_]+\b")


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
    assert shown_metrics() - told == set()


def test_every_worker_gauge_is_shown() -> None:
    assert {f"worker_{name}" for name in WORKER_GAUGES} <= shown_metrics()
