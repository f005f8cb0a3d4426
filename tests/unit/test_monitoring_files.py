"""The dashboard, Prometheus' configuration and the compose profile fit the gateway."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from app.observability.metrics import Metrics

ROOT: Final = Path(__file__).resolve().parents[2]
MONITORING: Final = ROOT / "monitoring"
METRIC: Final = re.compile(r"(?:vllm:|swarmgate_)\w+")
LABELS: Final = re.compile(r"by \(([^)]*)\)")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(
        (MONITORING / "grafana/dashboards/swarmgate.json").read_text(encoding="utf-8")
    )
    return loaded


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return loaded


def exposed_names() -> set[str]:
    """Return the names of all samples that the gateway can expose."""
    names: set[str] = set()
    for family in Metrics().registry.collect():
        names.add(family.name)
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        names.update(family.name + ending for ending in endings.get(family.type, []))
    return names


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield every query of the dashboard."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        yield variable["query"]["query"]


def test_every_metric_of_the_dashboard_exists(dashboard: dict[str, Any]) -> None:
    """A renamed metric fails here and not on somebody's screen in the night."""
    used = {name for text in expressions(dashboard) for name in METRIC.findall(text)}

    assert len(used) > 15
    assert used - exposed_names() == set()


def test_every_query_groups_by_labels_that_exist(dashboard: dict[str, Any]) -> None:
    """A label that nobody sets would make one line of all."""
    known = {"le", "model_name", "outcome", "code", "part"}
    used = {
        label.strip()
        for text in expressions(dashboard)
        for labels in LABELS.findall(text)
        for label in labels.split(",")
        if label.strip()
    }

    assert used <= known


def test_panels_have_a_place_of_their_own(dashboard: dict[str, Any]) -> None:
    """None covers another, and all fit the grid of 24 columns."""
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for place in (panel["gridPos"],)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert all(0 <= x < 24 for x, _ in cells)


def test_monitoring_starts_only_when_asked_for(compose: dict[str, Any]) -> None:
    """`docker compose --profile monitoring up`, published on loopback alone."""
    for name in ("prometheus", "grafana"):
        service = compose["services"][name]
        assert service["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert not service["image"].endswith(":latest")


def test_prometheus_scrapes_the_gateway_with_a_key(compose: dict[str, Any]) -> None:
    """/metrics is not public; the key comes as a secret, never in a file of the project."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]

    assert job["static_configs"] == [{"targets": ["gateway:8000"]}]
    secret = Path(job["authorization"]["credentials_file"]).name
    assert compose["services"]["prometheus"]["secrets"] == [secret]
    assert "environment" in compose["secrets"][secret]


def test_files_that_are_mounted_exist(compose: dict[str, Any]) -> None:
    """A typing error in a path would be an empty folder in the container."""
    mounts = [
        mount.split(":")[0]
        for name in ("prometheus", "grafana")
        for mount in compose["services"][name]["volumes"]
        if mount.startswith("./")
    ]

    assert len(mounts) == 3
    assert all((ROOT / mount).exists() for mount in mounts)
