"""The files of a study's runs, wherever the store keeps them, as local copies for as long as they are looked at."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self


class StudyFiles:
    """Artifacts of runs, fetched into a temporary folder that goes with the `with` block.

    Args:
        tracking_uri: absolute.
        artifact_uris: of each run, by its id.
    """

    def __init__(self, tracking_uri: str, artifact_uris: Mapping[str, str]) -> None:
        self._tracking_uri, self._uris = tracking_uri, artifact_uris
        self._scratch = tempfile.TemporaryDirectory(prefix="ambient-report-")
        self.problems: dict[str, str] = {}  # by kind of error, in the store's own words

    def __enter__(self) -> Self:
        """The files."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the folder."""
        self._scratch.cleanup()

    def fetch(self, run_id: str, artifact: str) -> Path | None:
        """A local copy of a run's file or folder; None where it cannot be had, with the reason in `problems`."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        folder = Path(self._scratch.name) / run_id
        folder.mkdir(exist_ok=True)
        try:
            repository = get_artifact_repository(self._uris[run_id], self._tracking_uri)
            found = Path(repository.download_artifacts(artifact, str(folder)))
        except Exception as error:  # each kind of store raises its own library's errors
            self.keep(error)
            return None
        if found.is_file() or (found.is_dir() and any(found.iterdir())):
            return found
        return None  # a server answers with an empty folder where there is nothing

    def keep(self, error: Exception) -> None:
        """Remember why something could not be read, once a kind of error."""
        first_line = (str(error).strip() or "no reason given").splitlines()[0]
        self.problems.setdefault(type(error).__name__, f"{type(error).__name__}: {first_line[:300]}")
