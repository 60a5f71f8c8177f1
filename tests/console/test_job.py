"""Inside a Ray job a search writes to absolute paths or not at all."""

import pytest

from ambient_ray import search
from ambient_ray.console.command import load
from ambient_ray.console.job import JobPathError, check_job_paths

JOB = {"RAY_JOB_CONFIG_JSON_ENV_VAR": '{"metadata": {"job_submission_id": "raysubmit_1"}}'}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"output_dir": "outputs"}, r"output_dir=outputs is relative, .* e.g. output_dir=/mnt/shared/outputs"),
        ({"output_dir": "./a/out"}, r"output_dir=/mnt/shared/out"),
        ({"output_dir": "/o", "storage": "journal:a/study.journal"}, r"e.g. storage=journal:/mnt/shared/study.journal"),
        ({"output_dir": "/o", "storage": "sqlite:///study.db"}, r"e.g. storage=sqlite:////mnt/shared/study.db"),
        ({"output_dir": "/o", "tracking": {"uri": "sqlite:///mlflow.db"}}, r"tracking.uri=sqlite:////mnt/shared/"),
        ({"output_dir": "/o", "tracking": {"uri": "mlflow.db"}}, r"tracking.uri=/mnt/shared/mlflow.db"),
    ],
)
def test_a_relative_path_that_is_written_to_is_refused_by_its_key(content, message):
    with pytest.raises(JobPathError, match=message):
        check_job_paths(content, JOB)
    check_job_paths(content, {})  # and is right where a user stands in his own folder


@pytest.mark.parametrize(
    "content",
    [
        {"output_dir": "/shared/outputs"},
        {"output_dir": "~/outputs"},
        {"output_dir": "s3://bucket/outputs"},
        {"output_dir": "/o", "storage": "postgresql://db/optuna", "tracking": {"uri": "http://mlflow:5000"}},
        {"output_dir": "/o", "storage": "sqlite:////o/study.db", "tracking": {"uri": "sqlite:////o/mlflow.db"}},
        {"output_dir": "/o", "storage": None, "tracking": {"uri": None}},
    ],
)
def test_whatever_outlives_the_job_is_taken(content):
    check_job_paths(content, JOB)


def test_the_search_says_so_before_it_reads_an_image(monkeypatch):
    monkeypatch.setenv(*next(iter(JOB.items())))
    with pytest.raises(JobPathError, match="output_dir=outputs is relative"):
        search.run(load("search", ["dataset.path=/nowhere"]))
