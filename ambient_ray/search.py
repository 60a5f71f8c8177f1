"""The main job: search sigma_tn and the rest for the front of fidelity against memorization.

    python -m ambient_ray.search study=faces dataset.path=/data/faces dataset.n_train=1000

`--help` and `--cfg job` show every key. The same command continues a study.
"""

from typing import Any

from ambient_ray.console.command import run_command


def run(content: dict[str, Any]) -> int:
    """Validate, prepare and search; returns the exit code."""
    from ambient_ray.console.configuration import validate
    from ambient_ray.console.job import check_job_paths

    check_job_paths(content)
    config = validate(content)
    print(f"study {config.study}: reading images, checking settings", flush=True)
    from ambient_ray.console.session import conduct

    return conduct(config)


def main() -> None:
    """Console script `ambient-search`."""
    run_command("search", run)


if __name__ == "__main__":
    main()
