"""One configuration, no search: trained through all its rungs, scored, recorded and registered.

    python -m ambient_ray.train study=mine training.sigma_tn=0.5 training.noisy_ratio=0.3

The same command continues a run that was interrupted.
"""

from typing import Any

from ambient_ray.console.command import run_command


def run(content: dict[str, Any]) -> int:
    """Validate, prepare and train; returns the exit code."""
    from ambient_ray.console.configuration import validate
    from ambient_ray.console.job import check_job_paths

    check_job_paths(content)
    config = validate(content)
    print(f"study {config.study}: reading images, checking settings", flush=True)
    from ambient_ray.console.preparation import one_configuration
    from ambient_ray.console.session import conduct

    return conduct(config, one_configuration(config))


def main() -> None:
    """Console script `ambient-train`."""
    run_command("train", run)


if __name__ == "__main__":
    main()
