"""A Python process that runs pieces of code, sent as JSON lines, and answers with their results.

It represents a user's machine, with its own environment, cache and imports. A piece sets `result` (as JSON) or raises.
"""

import contextlib
import faulthandler
import io
import json
import logging
import os
import sys
from typing import Any

LONGEST_S = 60.0  # for one piece; after that the process ends with a traceback


def serve() -> None:
    """Answer each piece of code with `{"result", "error", "printed"}`, until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # printed output must not mix with the answers
    names: dict[str, Any] = {}
    for line in sys.stdin:
        printed = io.StringIO()
        logging.getLogger("lamp_hf").handlers.clear()  # an earlier command logged to its own output
        names["result"] = error = None
        try:
            faulthandler.dump_traceback_later(LONGEST_S, exit=True)
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                exec(json.loads(line), names)
        except (Exception, SystemExit) as raised:
            error = f"{type(raised).__name__}: {raised}"
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"result": names["result"], "error": error, "printed": printed.getvalue()}), file=answers)
        answers.flush()


if __name__ == "__main__":
    serve()
