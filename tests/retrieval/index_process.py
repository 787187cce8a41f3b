"""Run by tests in a separate process: prints "ready" when everything is loaded, then uses an index.

index_process.py CHECKPOINT open FOLDER TIMES     opens the cached index of a folder TIMES times
index_process.py CHECKPOINT index FOLDER OUTPUT   indexes a folder with two workers
index_process.py CHECKPOINT command ARGUMENT …    a command of `lamp-hf`
"""

import multiprocessing
import signal
import sys
import threading
from pathlib import Path

import lamp_hf
from lamp_hf.retrieval import FolderSource, MotionTextEncoder, build_index, open_index
from lamp_hf.retrieval import index as index_module


def tell_workers() -> None:
    """Print the ids of worker processes when they start."""
    told: set[int] = set()
    while True:
        for child in multiprocessing.active_children():
            if child.pid not in told:
                told.add(child.pid or 0)
                print("worker", child.pid, flush=True)
        threading.Event().wait(0.01)


def main(checkpoint: str, what: str, *rest: str) -> None:
    model = lamp_hf.LampForMotionTextRetrieval.from_pretrained(checkpoint)
    encoder = MotionTextEncoder(model, lamp_hf.LampProcessor.from_pretrained(checkpoint))
    threading.Thread(target=tell_workers, daemon=True).start()
    print("ready", flush=True)
    if what == "open":
        sys.stdin.readline()  # until all are ready
        for _ in range(int(rest[1])):
            index = open_index(rest[0], encoder, num_proc=1, progress=False)
            [found] = index.find_motions(encoder.encode_texts(["a person walks"]), top_k=3)
            print("opened", len(index), len(found), flush=True)
    elif what == "index":
        index_module.ROWS_PER_FILE = 16
        index = build_index(Path(rest[1]), FolderSource(rest[0], num_proc=2), encoder, progress=False)
        print("indexed", len(index), flush=True)
    else:
        from lamp_hf.cli import main as command

        command(list(rest))


if __name__ == "__main__":
    # Processes that a shell starts in the background ignore Ctrl-C, and this one would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(*sys.argv[1:])
