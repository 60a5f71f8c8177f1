"""How a command ends: its exit code, and one sentence for a user's error."""

import sys
from collections.abc import Callable

from ambient_ray.errors import UserError
from ambient_ray.redaction import redacted


def guarded(action: Callable[[], int]) -> int:
    """Run an action; a user's error is printed as one sentence and gives 2, Ctrl-C gives 130."""
    try:
        return action()
    except UserError as error:
        print(f"error: {redacted(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
