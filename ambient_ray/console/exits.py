"""How a command ends: its exit code, and one sentence for a user's error."""

import signal
import sys
import threading
from collections.abc import Callable

from ambient_ray.errors import UserError
from ambient_ray.redaction import redacted


def guarded(action: Callable[[], int]) -> int:
    """Run an action; a user's error is printed as one sentence and gives 2, Ctrl-C and SIGTERM give 130."""
    try:
        return action()
    except UserError as error:
        print(f"error: {redacted(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def terminate_as_interrupt() -> None:
    """From here on SIGTERM is what Ctrl-C is: `ray job stop`, Slurm, Kubernetes and systemd end a command by it.

    To be called again after Ray has started, which takes the signal for itself and ends a process without its work
    being closed. Elsewhere than in the main thread, where signals are nobody's to take, it changes nothing.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
