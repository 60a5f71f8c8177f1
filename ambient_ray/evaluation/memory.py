"""How much of a device's memory this process may still take."""

import torch

_SHARES: dict[int, float] = {}  # of each GPU, where this process was given less than the whole


def take_share(device: torch.device, share: float) -> None:
    """Bound this process to a share, in (0, 1), of a GPU's memory, as others hold the rest.

    Beyond it PyTorch raises its out-of-memory error here, where otherwise a neighbour would run out of it.
    """
    torch.cuda.set_per_process_memory_fraction(share, device)
    _SHARES[device.index or 0] = share


def free_memory(device: torch.device) -> float:
    """Bytes on a GPU that this process may still take now: what is free, and within its share of it."""
    free, total = torch.cuda.mem_get_info(device)
    return within_share(free, total, torch.cuda.memory_reserved(device), _SHARES.get(device.index or 0, 1.0))


def within_share(free: float, total: float, held: float, share: float) -> float:
    """What is left to a process that holds `held` bytes and may take `share` of `total`, of which `free` are free."""
    return max(0.0, min(free, share * total - held)) if share < 1 else float(free)
