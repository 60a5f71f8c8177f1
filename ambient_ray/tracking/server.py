"""A tracking server asked over HTTP, as MLflow's client would ask it, without importing MLflow."""

from __future__ import annotations

import base64
import configparser
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ambient_ray.errors import UserError

_AWAY = {502, 503, 504}  # a proxy answers, but not the server behind it
_HEALTH = "/health"
_QUESTION = "/api/2.0/mlflow/experiments/search?max_results=1"  # needs a password where there are passwords


class TrackingRefusedError(UserError):
    """The tracking server answers, but not to us: a password is missing or wrong, or the host's name not allowed."""


def ask_server(uri: str, timeout: float) -> None:
    """Return if a tracking server answers at `uri` and lets us ask, with the user's credentials.

    These are what MLflow takes: in the address, in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, in
    MLFLOW_TRACKING_TOKEN, or in ~/.mlflow/credentials. Raises OSError where nothing answers, TrackingRefusedError.
    """
    base, authorization = _credentials(uri.rstrip("/"))
    context = _tls() if base.startswith("https://") else None
    for path in (_HEALTH, _QUESTION):
        request = urllib.request.Request(base + path)
        if authorization and path != _HEALTH:
            request.add_header("Authorization", authorization)
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=context):
                pass
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _AWAY:
                    raise
                if error.code in (401, 403):
                    raise TrackingRefusedError(_refusal(base, error, bool(authorization))) from error
                if path == _HEALTH:
                    return  # any other status is an answer, though not that of an MLflow server of today


def _refusal(base: str, error: urllib.error.HTTPError, known: bool) -> str:
    said = error.read(2000).decode("utf-8", "replace")
    if "Host header" in said:
        return (
            f"the server at tracking.uri={base} does not allow the name {urlsplit(base).netloc}: "
            "add it to its --allowed-hosts (MLFLOW_SERVER_ALLOWED_HOSTS), or use a name that it allows"
        )
    wrong = "refuses this user and password" if known else "asks for a user and a password"
    return (
        f"the server at tracking.uri={base} {wrong} ({error.code}): "
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write ~/.mlflow/credentials"
    )


def _credentials(uri: str) -> tuple[str, str]:
    """The address without its user and password, and the Authorization header, empty where there is none."""
    parts = urlsplit(uri)
    base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.username:
        return base, _basic(unquote(parts.username), unquote(parts.password or ""))
    stored = configparser.ConfigParser(interpolation=None)
    try:
        stored.read(Path("~/.mlflow/credentials").expanduser())
        section = dict(stored["mlflow"]) if "mlflow" in stored else {}
    except (OSError, configparser.Error, RuntimeError):  # MLflow will tell what is wrong with it
        section = {}
    user, password = (
        os.environ.get(f"MLFLOW_TRACKING_{key}") or section.get(f"mlflow_tracking_{key.lower()}", "")
        for key in ("USERNAME", "PASSWORD")
    )
    if user and password:
        return base, _basic(user, password)
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return base, f"Bearer {token}" if token else ""


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _tls() -> ssl.SSLContext:
    """Whom we trust: as MLflow does, by its variables and those of requests."""
    own = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or os.environ.get("REQUESTS_CA_BUNDLE") or None
    folder = own is not None and Path(own).is_dir()
    context = ssl.create_default_context(cafile=None if folder else own, capath=own if folder else None)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(client)
    return context
