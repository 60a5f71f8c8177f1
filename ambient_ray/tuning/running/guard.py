"""Who may use a search's Ray: a token for a cluster of its own, a word where a joined one lets in everybody."""

import os
import secrets
import sys
from importlib import import_module
from typing import Any

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def guard_own_cluster() -> None:
    """Switch token authentication on for the cluster that this process is about to start; the user's settings win.

    Ray's servers listen on all addresses of the machine, whatever address its node is given, and whoever reaches them
    runs code as this user. The token is random, lives in the environment of this process and of Ray's own, which no
    other user can read, and is gone with them: no file is left that would turn authentication on for the next
    `ray start`. It costs nothing that can be measured.
    """
    if os.environ.setdefault(MODE, "token").lower() != "token":
        return
    if not (os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH)):
        os.environ[TOKEN] = secrets.token_hex(32)
    if "ray" in sys.modules:  # it has read its settings already
        raylet = _raylet()
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def open_to_everybody() -> str:
    """One sentence if the cluster that this process has joined asks for no token, else "". Ray must be connected."""
    raylet = _raylet()
    if raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN:
        return ""
    return (
        "warning: this Ray cluster asks for no token, so whoever reaches it can run code on it and read the study;"
        " start it with RAY_AUTH_MODE=token on every node (cluster/README.md)"
    )


def _raylet() -> Any:
    """Ray's core, whose stubs leave these out."""
    return import_module("ray._raylet")
