"""The main job: search sigma_tn and the rest for the front of fidelity against memorization.

    python -m ambient_ray.search study=faces dataset.path=/data/faces dataset.n_train=1000

`--help` and `--cfg job` show every key. The same command continues a study.
"""

from typing import Any

from ambient_ray.console.command import run_command


def run(content: dict[str, Any]) -> int:
    """Validate, prepare and search; returns the exit code."""
    from ambient_ray.console.configuration import validate

    config = validate(content)
    print(f"study {config.study}: reading images, checking settings", flush=True)
    from ambient_ray.console.preparation import prepare
    from ambient_ray.console.session import announce, search

    prepared = prepare(config)
    announce(prepared)
    if config.dry_run:
        from ambient_ray.console.estimate import print_estimate

        print_estimate(prepared)
        return 0
    return search(prepared)


def main() -> None:
    """Console script `ambient-search`."""
    run_command("search", run)


if __name__ == "__main__":
    main()
