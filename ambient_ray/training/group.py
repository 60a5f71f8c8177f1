"""The workers of a trial as one group of torch.distributed, over the network that Ray itself uses."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trial import World

# How long ranks wait for each other, e.g. while the first scores a rung.
_PATIENCE = timedelta(minutes=60)


def interface_of(address: str, interfaces: Mapping[str, Sequence[str]]) -> str | None:
    """The network interface that has an address; None if none has, as behind a NAT.

    Args:
        address: IPv4 or IPv6, without a port.
        interfaces: name -> its addresses; IPv6 ones may carry a scope (`fe80::1%eth0`).
    """
    for name, addresses in interfaces.items():
        if address in (known.partition("%")[0] for known in addresses):
            return name
    return None


def use_interface(address: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What to set so that gloo and NCCL talk over the interface that has `address`; the user's own settings win.

    gloo takes the interface of the host's name, which /etc/hosts often gives 127.0.0.1: workers on other nodes are then
    waited for in vain. NCCL takes the first that it finds.
    """
    import psutil

    found = {name: [entry.address for entry in entries] for name, entries in psutil.net_if_addrs().items()}
    name = interface_of(address, found)
    if name is None:
        return {}
    return {key: name for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if not environment.get(key)}


@contextmanager
def process_group(world: World) -> Iterator[None]:
    """torch.distributed's default group over the workers, by nccl on GPUs and gloo elsewhere; none for one worker."""
    if world.size == 1:
        yield
        return
    import ray
    import torch.distributed as dist
    from ray.train.collective import broadcast_from_rank_zero

    here = ray.util.get_node_ip_address()
    os.environ.update(use_interface(here))
    meeting = None
    if world.rank == 0:
        with socket.socket() as free:
            free.bind(("", 0))
            meeting = f"tcp://{here}:{free.getsockname()[1]}"
    dist.init_process_group(
        "nccl" if world.device.type == "cuda" else "gloo",
        init_method=broadcast_from_rank_zero(meeting),
        rank=world.rank,
        world_size=world.size,
        timeout=_PATIENCE,
        device_id=world.device if world.device.type == "cuda" else None,  # nccl else guesses it at the first barrier
    )
    try:
        yield
        wait_for_all()
    finally:
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Return once every rank is here: in gloo, a rank that leaves early aborts one that still waits.

    With gloo without an asynchronous collective: DDP keeps its process group, so its threads, alive past
    destroy_process_group (torch 2.15), and one that is still dropping a collective's tensor while Python ends aborts
    the process ("terminate called without an active exception").
    """
    import torch.distributed as dist

    if dist.get_backend() == "gloo":
        dist.monitored_barrier(timeout=_PATIENCE)
    else:
        dist.barrier()
