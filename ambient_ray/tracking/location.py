"""Which store a command reads from: the one that is named, else the user's own, else the search's default."""

from __future__ import annotations

from pathlib import Path

from ambient_ray.errors import UserError

from .store import SQLITE, absolute_uri, check_tracking, sqlite_path

DEFAULT_STORE = Path("outputs") / "mlflow.db"


class StoreNotFoundError(UserError):
    """No store is named and there is no default one, or the named database does not exist."""


def existing_store(tracking_uri: str | None) -> str:
    """The absolute URI of a store that answers and exists already; nothing is created.

    tracking_uri: None: what mlflow.set_tracking_uri or MLFLOW_TRACKING_URI says, else `./outputs/mlflow.db` if it
    exists. Raises StoreNotFoundError, TrackingUriError, TrackingUnreachableError.
    """
    chosen = tracking_uri or _users_uri()
    if chosen is None:
        raise StoreNotFoundError(
            f"no tracking URI is given and {DEFAULT_STORE} does not exist here: give tracking_uri= "
            "(--tracking-uri), or set MLFLOW_TRACKING_URI"
        )
    absolute = absolute_uri(chosen)
    if absolute.startswith(SQLITE) and not sqlite_path(absolute).exists():
        raise StoreNotFoundError(f"there is no MLflow database {sqlite_path(absolute)}")
    check_tracking(absolute)
    return absolute


def _users_uri() -> str | None:
    import mlflow

    if mlflow.is_tracking_uri_set():
        return str(mlflow.get_tracking_uri())
    return f"{SQLITE}{DEFAULT_STORE.resolve()}" if DEFAULT_STORE.exists() else None
