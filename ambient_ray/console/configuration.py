"""What a user may set, with its types and ranges: the configuration after Hydra has composed it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ambient_ray.storage import Location, locate

from .command import ConfigurationError, shortened


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _absolute(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path holds no NUL character")
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{path.parts[0]} is no user's home folder") from error


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class DatasetConfig(_Section):
    """Which images: a set by `name`, or a folder, zip or file of arrays by `path`; and how they are read."""

    name: str | None = None
    path: str | None = None
    resolution: int | None = Field(None, ge=4, le=4096)
    channels: Literal[1, 3] | None = None
    n_train: int = Field(ge=1)
    skip_broken: bool = False
    labels: Literal["auto", "folders", "none"] = "auto"
    memory_map: bool = False
    subset: AbsolutePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "DatasetConfig":
        if self.path is None and self.name is None:
            raise ValueError("set dataset.path to a folder, zip or file of arrays, or dataset.name to a built-in set")
        return self

    @property
    def source(self) -> str:
        """What `load_images` takes: the path if there is one, else the name."""
        return self.path if self.path is not None else str(self.name)


class EvaluationConfig(_Section):
    """How candidates are scored."""

    features: str | dict[str, Any] = "auto"
    weights: AbsolutePath | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$")
    repo: AbsolutePath | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    reference: str = "heldout"  # or full, train, or the path of any other set
    heldout: int | None = Field(None, ge=2)
    samples: int = Field(ge=16)
    sample_steps: int = Field(18, ge=2)
    sample_batch: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    fidelity: str = "fd"
    memorization: str = "f_mem"
    tolerance: float = Field(0.05, ge=0)
    delta: float = Field(1.0, gt=0)


class TrialConfig(_Section):
    """The shape of a trial and how long it runs."""

    workers: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = 1
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    rungs: list[int] = Field(min_length=1)
    reduction_factor: float | None = Field(2.0, gt=1)
    within: Literal["crowding", "epsilon_net"] = "crowding"
    rung_values: list[list[str]] | None = None
    max_concurrent: int | None = Field(None, ge=1)
    wait_for_nodes_minutes: float = Field(10, ge=0)
    max_failures: int = Field(1, ge=0)
    hang_minutes: float | None = Field(10.0, gt=0)
    pack: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"

    @field_validator("workers", mode="before")
    @classmethod
    def _one_or_two(cls, workers: Any) -> Any:
        whole = [workers] if not isinstance(workers, (list, tuple)) else list(workers)
        if len(whole) > 2 or not whole or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in whole):
            raise ValueError("must be a whole number of 1 or more, or [fewest, most] of them")
        return workers

    @property
    def fewest_workers(self) -> int:
        """Workers of a trial at the least."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most_workers(self) -> int:
        """Workers of a trial at the most."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @field_validator("rungs")
    @classmethod
    def _increasing(cls, rungs: list[int]) -> list[int]:
        if any(b <= a for a, b in zip([0, *rungs], rungs, strict=False)):
            raise ValueError("must be above 0 and strictly increasing (training images seen at each rung)")
        return rungs

    @model_validator(mode="after")
    def _values_for_rungs(self) -> "TrialConfig":
        if self.rung_values is not None and (len(self.rung_values) != len(self.rungs) or not all(self.rung_values)):
            raise ValueError(f"rung_values must name the scores that count for each of the {len(self.rungs)} rungs")
        return self


class PriorConfig(_Section):
    """How much the search listens to the beliefs that its space states."""

    weight: float = Field(0.5, ge=0, le=1)


class ConfirmConfig(_Section):
    """Which candidates are trained again on fresh seeds, and by which rule one of them becomes champion."""

    top: int = Field(3, ge=0)
    seeds: int = Field(3, ge=2)
    rule: Literal["matched", "knee", "max_memorization"] = "matched"
    max_memorization: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _rule_has_its_number(self) -> "ConfirmConfig":
        if self.rule == "max_memorization" and self.max_memorization is None:
            raise ValueError("rule=max_memorization needs confirm.max_memorization, a share from 0 to 1")
        return self


class TrackingConfig(_Section):
    """Where MLflow keeps runs and models. Without a uri: one SQLite file in the output folder."""

    uri: str | None = None
    model_name: str | None = None
    register_front: int = Field(8, ge=0)


class Configuration(_Section):
    """Everything a search needs."""

    study: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    output_dir: AbsolutePath
    checkpoints: str | None = None
    keep_checkpoints: Literal["front", "all"] = "front"
    checkpoint_patience: float = Field(12.0, ge=0)
    storage: str | None = None
    seed: int = Field(ge=0)
    trials: int | None = Field(ge=1)
    hours: float | None = Field(None, gt=0)
    gpu_hours: float | None = Field(None, gt=0)
    warm_start: str | None = None
    enqueue: AbsolutePath | None = None
    search_space: str
    search_spaces: AbsolutePath | None = None
    space: dict[str, dict[str, Any]] = Field(default_factory=dict)
    dry_run: bool = False
    address: str | None = None
    dataset: DatasetConfig
    backbone: dict[str, Any]
    training: dict[str, Any]
    evaluation: EvaluationConfig
    trial: TrialConfig
    sampler: dict[str, Any]
    prior: PriorConfig = PriorConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    tracking: TrackingConfig

    @model_validator(mode="after")
    def _some_budget(self) -> "Configuration":
        if self.trials is None and self.hours is None and self.gpu_hours is None:
            raise ValueError("set trials, hours or gpu_hours: without any of them the search would never end")
        if self.gpu_hours is not None and not self.trial.gpus_per_worker:
            raise ValueError(
                "gpu_hours bounds trials that hold GPUs; set trial.gpus_per_worker, or use hours or trials"
            )
        return self

    @field_validator("checkpoints")
    @classmethod
    def _some_place(cls, given: str | None) -> str | None:
        place = locate(given) if given is not None else None  # raises of its own, without what a URL may hide
        if isinstance(place, Path):
            if not str(place).startswith(("/", "~")):
                raise ValueError("must be a URL or an absolute path, as trials run in other folders and on other nodes")
            return str(_absolute(place))
        return given

    @property
    def checkpoint_folder(self) -> Location:
        """Where this study's trials keep their checkpoints."""
        return self.folder / "trials" if self.checkpoints is None else locate(self.checkpoints) / self.study

    @property
    def reference(self) -> Literal["heldout", "full", "train", "other"]:
        """What fidelity is measured against: `other` where evaluation.reference is the path of another set."""
        given = self.evaluation.reference
        return given if given in ("heldout", "full", "train") else "other"  # type: ignore[return-value]

    @property
    def folder(self) -> Path:
        """Where this study keeps its storage and report, and its checkpoints unless another place is given for them."""
        return self.output_dir / self.study

    @property
    def storage_url(self) -> str:
        """The Optuna storage: a journal file in the study's folder unless a URL is given."""
        return self.storage or f"journal:{self.folder / 'study.journal'}"

    @property
    def model_name(self) -> str:
        """The registered model's name: the study's, unless another is given."""
        return self.tracking.model_name or self.study


def validate(content: Mapping[str, Any]) -> Configuration:
    """Check types and ranges.

    Args:
        content: the composed configuration, plain containers.

    Raises:
        ConfigurationError: one sentence with the key, what was expected and what was given.
    """
    try:
        return Configuration.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            raise ConfigurationError(
                f"unknown configuration key {shortened(repr(key))} (--cfg job prints every key)"
            ) from error
        given = "" if isinstance(first["input"], dict) else f", got {shortened(repr(first['input']))}"
        raise ConfigurationError(f"{shortened(key)}: {message[0].lower()}{message[1:]}{given}") from error
