"""Who works for this instance, as API, metrics and command line tell it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.test import Client

from batches.models import Device, Host
from batches.selectors.hosts import host_text, hosts
from tests.batches.rows import device, elsewhere

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def two_hosts() -> Device:
    device()
    return elsewhere(kind="RTX 3060 (cuda)", loaded=["muq"], rates={"muq": 900.123}, problem="no music")


def test_hosts_are_listed_with_their_devices(client: Client, two_hosts: Device) -> None:
    found = {host["key"]: host for host in client.get("/api/v1/hosts").json()["results"]}
    assert found["ffff"]["is_here"]
    assert found["ffff"]["devices"] == [
        {"index": 0, "kind": "RTX 3060 (cuda)", "loaded": ["muq"], "rates": {"muq": 900.1}, "problem": "no music"}
    ]
    assert len(found) == 2


def test_metrics_tell_how_fast_devices_are(client: Client, two_hosts: Device) -> None:
    text = client.get("/metrics").content.decode()
    assert 'navembed_host_up{host="ffff"} 1.0' in text
    assert 'navembed_device_up{device="0",host="ffff"} 0.0' in text
    assert 'navembed_device_rate{device="0",host="ffff",model="muq"} 900.1' in text


def test_a_host_is_a_line_for_people(two_hosts: Device) -> None:
    texts = [host_text(host) for host in hosts()]
    assert "ffff: here; RTX 3060 (cuda) (muq 900×): no music" in texts


def test_a_host_that_has_gone_was_last_seen_some_time_ago(two_hosts: Device) -> None:
    Host.objects.filter(key="ffff").update(seen_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    assert any(text.startswith("ffff: last seen 2026-01-02 03:04 UTC; ") for text in map(host_text, hosts()))
