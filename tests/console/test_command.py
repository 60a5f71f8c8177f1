"""What a command does with Ctrl-C and SIGTERM, wherever in Python they arrive."""

import subprocess
import sys

import pytest

from ambient_ray.console.command import interrupt_again

SWALLOWS = """
import signal, sys, time
from ambient_ray.console.command import interrupt_again
from ambient_ray.console.exits import guarded, terminate_as_interrupt

class Ends:
    def __del__(self):
        signal.raise_signal(signal.SIGNAL)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and its children do
terminate_as_interrupt()
sys.unraisablehook = interrupt_again

def task():
    Ends()  # Python prints and drops what its destructor raises
    time.sleep(30)
    return 0

sys.exit(guarded(task))
"""


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_python_swallows_comes_again(signal):
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWS.replace("SIGNAL", signal)], timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 130, done.stderr


def test_other_errors_of_destructors_are_printed_as_ever(capsys):
    caught = []

    class Ends:
        def __del__(self):
            raise ValueError("at the end")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda it: (caught.append(it.exc_type), interrupt_again(it)))
        Ends()
    assert caught == [ValueError]
    assert "at the end" in capsys.readouterr().err
