"""The main job as ever, but counted: at each trial's end, what its processes hold goes as a line into a file.

Run as `python census.py FILE KEY=VALUE ...`; the overrides are the search's.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import psutil

from ambient_ray.tuning.listener import Listener


class Census(Listener):
    """A listener beside a search's own."""

    def __init__(self, file):
        self._file = file

    def trial_ended(self, trial):
        with self._file.open("a") as out:
            out.write(json.dumps({"trial": trial.number, "state": trial.state, **held()}) + "\n")


def held():
    """What the search's processes hold now, by the names that Ray gives them."""
    import ray
    from ray._private.state import actors

    me = psutil.Process()
    megabytes, files, processes = Counter(), Counter(), Counter()
    for process in [me, *me.children(recursive=True)]:
        try:
            title = "".join(process.cmdline()[:1])
            actor = title.startswith("ray::")
            named = title.removeprefix("ray::").split(".")[0] if actor else Path(title).name
            name = "search" if process == me else named
            memory, descriptors = process.memory_info().rss / 2**20, process.num_fds()
        except psutil.Error:  # it has just ended
            continue
        processes[name] += 1
        megabytes[name] += memory
        files[name] += descriptors
    groups = [g["state"] for g in ray.util.placement_group_table().values() if g["state"] != "REMOVED"]
    alive = [a["ActorClassName"] for a in actors().values() if a["State"] != "DEAD"]
    return {
        "megabytes": megabytes, "files": files, "processes": processes, "groups": len(groups), "actors": Counter(alive),
        "unused": {key: value for key, value in ray.available_resources().items() if key == "CPU"},
    }  # fmt: skip


def main():
    """Search with the census among the listeners."""
    from ambient_ray import search
    from ambient_ray.console import trials

    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    file, real = Path(sys.argv.pop(1)), trials.run_search

    def counted(study, plan, slots, shared, listeners=(), *rest, **others):
        return real(study, plan, slots, shared, (*listeners, Census(file)), *rest, **others)

    trials.run_search = counted
    search.main()


if __name__ == "__main__":
    main()
