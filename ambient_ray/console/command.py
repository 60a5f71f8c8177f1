"""Run a Hydra entry point so that bad input is one sentence and exit code 2."""

import difflib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra import compose, initialize_config_module
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ambient_ray.errors import UserError

from .exits import guarded, terminate_as_interrupt

CONF = "ambient_ray.conf"
# Hydra's own errors, and what it meets overrides with that its grammar takes and its code does not.
REFUSALS = (
    HydraException,
    OmegaConfBaseException,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    OSError,
)
LONGEST = 600  # characters of an error's sentence


class ConfigurationError(UserError):
    """A key, group or value on the command line that the configuration does not have."""


def run_command(config_name: str, task: Callable[[dict[str, Any]], int]) -> None:
    """Compose the configuration from the command line, run `task` with it and exit.

    Hydra's own flags (--help, --cfg job, --info, tab completion) work as ever.

    Args:
        config_name: a file of `ambient_ray.conf`.
        task: takes the resolved configuration as plain containers and returns the exit code.
    """

    sys.unraisablehook = interrupt_again
    terminate_as_interrupt()

    def job(config: DictConfig) -> None:
        sys.exit(guarded(lambda: task(resolve(config))))

    if not any(flag.startswith(("--shell-completion", "-sc")) for flag in sys.argv[1:]):
        code = guarded(lambda: check_overrides(config_name, sys.argv[1:]))
        if code:
            sys.exit(code)
    hydra.main(version_base="1.3", config_path=f"pkg://{CONF}", config_name=config_name)(job)()


def interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """`sys.unraisablehook`: a Ctrl-C that Python swallowed comes once more.

    The exception of a signal that arrives in a destructor or a weak reference's callback, as each import has one, is
    printed and dropped, and the search would go on.
    """
    if unraisable.exc_type is KeyboardInterrupt:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(unraisable)


def check_overrides(config_name: str, arguments: Sequence[str]) -> int:
    """Compose once before Hydra does, to turn its errors of several lines into one sentence.

    Raises:
        ConfigurationError: an unknown key or group, a malformed override, or --multirun.
    """
    parsed = get_args_parser().parse_args(list(arguments))
    if parsed.multirun:
        raise ConfigurationError(
            "--multirun is not for this command: the search is Ray Tune's, with trials= and search_space="
        )
    load(config_name, parsed.overrides)
    return 0


def load(config_name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The resolved configuration for a list of overrides, as plain containers.

    Raises:
        ConfigurationError: an unknown key or group, or a malformed override.
    """
    try:
        with initialize_config_module(CONF, version_base="1.3"):
            return resolve(compose(config_name, overrides=list(overrides)))
    except RecursionError as error:
        raise ConfigurationError("an override is nested too deep to be read") from error
    except REFUSALS as error:
        raise ConfigurationError(shortened(_one_sentence(config_name, error))) from error


def resolve(config: DictConfig) -> dict[str, Any]:
    """Interpolations resolved, as plain containers.

    Raises:
        ConfigurationError: an interpolation that leads nowhere, or a mandatory value that is missing.
    """
    try:
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigurationError(shortened(str(error))) from error
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def shortened(text: str) -> str:
    """A text in one line, without the middle of one too long to read: Hydra and pydantic quote what was given."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


def _one_sentence(config_name: str, error: Exception) -> str:
    text = str(error)
    if found := re.search(r"Could not find '(?P<group>\w+)/(?P<name>[^']*)'", text):
        options = re.findall(r"^\s+(\S+)$", text.split("Available options", 1)[-1], re.MULTILINE)
        return f"there is no {found['group']} {found['name']!r}; there are {', '.join(options) or 'none'}"
    if found := re.search(r"Could not override '(?P<group>[^']*)'\.\s*No match in the defaults list", text):
        group = found["group"]
        hint = f"; write +{group}=NAME" if group == "preset" else ""
        return f"{group!r} is not a configuration group that is set by default{hint}"
    if found := re.search(r"Could not (?:override|append|find) (?:config group )?'(?P<key>[^']+)'", text):
        key = found["key"]
        close = difflib.get_close_matches(key, _keys(load(config_name)), n=1, cutoff=0.6) if "=" not in key else []
        return (
            f"unknown configuration key {key!r}{f'; did you mean {close[0]!r}?' if close else ''}"
            " (--cfg job prints every key and its value)"
        )
    return " ".join(text.split()) or f"an override cannot be read ({type(error).__name__})"


def _keys(content: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in content.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _keys(value, f"{prefix}{key}.")
    return keys
