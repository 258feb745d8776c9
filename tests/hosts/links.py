"""The ways from hosts to what they share, which can be cut: cables between networks, or relays in one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tests.network import Namespace, Relay


class Link(Protocol):
    prefix: Sequence[str]
    """By which the host's commands are run."""
    addresses: list[str]
    """host:port of each target, as this host reaches it."""

    def cut(self) -> None: ...
    def mend(self) -> None: ...
    def close(self) -> None: ...


class Cable:
    """To a host with a network of its own. When it is cut, packets vanish in both directions."""

    def __init__(self, services: Namespace, number: int, targets: Sequence[str]) -> None:
        self._services, self._end = services, f"host{number}"
        self._host = Namespace(services)
        self.prefix = self._host.prefix
        services.ip("link", "add", self._end, "type", "veth", "peer", "name", "eth0", "netns", str(self._host.pid))
        for network, device, address in ((services, self._end, 1), (self._host, "eth0", 2)):
            network.ip("address", "add", f"10.77.{number}.{address}/24", "dev", device)
            network.ip("link", "set", device, "up")
        self._relays = [Relay(f"10.77.{number}.1:0", target, services.prefix) for target in targets]
        self.addresses = [relay.address for relay in self._relays]

    def cut(self) -> None:
        self._services.ip("link", "set", self._end, "down")

    def mend(self) -> None:
        self._services.ip("link", "set", self._end, "up")

    def close(self) -> None:
        for relay in self._relays:
            relay.close()
        self._host.close()


class Relayed:
    """To a host in our own network, where the system allows no other. When it is cut, nothing answers."""

    prefix = ()

    def __init__(self, targets: Sequence[str]) -> None:
        self._relays = [Relay("127.0.0.1:0", target) for target in targets]
        self.addresses = [relay.address for relay in self._relays]

    def cut(self) -> None:
        for relay in self._relays:
            relay.freeze()

    def mend(self) -> None:
        for relay in self._relays:
            relay.thaw()

    def close(self) -> None:
        for relay in self._relays:
            relay.close()
