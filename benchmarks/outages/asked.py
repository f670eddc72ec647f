"""Ask a contestant, in a process of its own: to send its messages, what is left, the command of its worker.

python -m outages.asked MODULE fill COUNT | left | worker
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> None:
    """Answer with a line of JSON."""
    name, what, *arguments = sys.argv[1:]
    module = importlib.import_module(f"outages.{name}")
    if what == "fill":
        module.fill(int(arguments[0]))
        print("{}", flush=True)
    else:
        print(json.dumps(module.WORKER if what == "worker" else dict(module.left())), flush=True)
    os._exit(0)  # clients that keep connections and threads end with it


if __name__ == "__main__":
    main()
