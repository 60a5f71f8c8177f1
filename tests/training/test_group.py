"""Over which network the ranks of a trial talk."""

import psutil
import pytest

from ambient_ray.training.group import interface_of, use_interface

FOUND = {
    "lo": ["127.0.0.1", "::1"],
    "eth0": ["10.0.0.5", "fe80::1%eth0", "02:42:ac:11:00:02"],
    "docker0": ["172.17.0.1"],
}


@pytest.mark.parametrize(
    ("address", "name"),
    [("10.0.0.5", "eth0"), ("127.0.0.1", "lo"), ("172.17.0.1", "docker0"), ("fe80::1", "eth0"), ("10.0.0.50", None)],
)
def test_an_address_belongs_to_one_interface(address, name):
    assert interface_of(address, FOUND) == name


@pytest.mark.parametrize(
    ("environment", "set_to"),
    [
        ({}, {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "eth0"}),
        ({"NCCL_SOCKET_IFNAME": "ib0"}, {"GLOO_SOCKET_IFNAME": "eth0"}),
        ({"NCCL_SOCKET_IFNAME": "ib0", "GLOO_SOCKET_IFNAME": "ib0"}, {}),
        ({"GLOO_SOCKET_IFNAME": ""}, {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "eth0"}),
    ],
)
def test_the_ranks_talk_where_ray_does_and_the_user_s_choice_wins(monkeypatch, environment, set_to):
    from types import SimpleNamespace

    found = {name: [SimpleNamespace(address=a) for a in addresses] for name, addresses in FOUND.items()}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    assert use_interface("10.0.0.5", environment) == set_to
    assert use_interface("203.0.113.9", environment) == {}, "an address of no interface here, as behind a NAT"


def test_this_machine_has_an_interface_for_its_loopback_address():
    assert set(use_interface("127.0.0.1", {}).values()) == {
        next(name for name, entries in psutil.net_if_addrs().items() if any(e.address == "127.0.0.1" for e in entries))
    }
