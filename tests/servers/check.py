#!/usr/bin/env python3
"""Whether the emulators can be trusted with Delta commits: four processes append to one table at once, and every row must be there.

    check.py [s3] [azure] [gcs]      exit 1 when one loses a commit

Emulators whose conditional writes are not atomic pass every serial test and lose commits here.
"""

import json
import multiprocessing
import os
import subprocess
import sys

WRITERS = 4
APPENDS = 5


def append(url, options, writer):
    import pyarrow
    from deltalake import write_deltalake

    for number in range(APPENDS):
        write_deltalake(url, pyarrow.table({"a": [writer * 1000 + number]}), mode="append", storage_options=options)


def judge(kind):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "emulator.py")
    emulator = subprocess.Popen([sys.executable, script, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        line = emulator.stdout.readline()
        if not line:
            print(f"{kind}: did not start")
            return False
        ready = json.loads(line)
        url = ready["url"] + "/races"
        append(url, ready["options"], 0)
        spawn = multiprocessing.get_context("spawn")
        writers = [spawn.Process(target=append, args=(url, ready["options"], n + 1)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        from deltalake import DeltaTable

        rows = DeltaTable(url, storage_options=ready["options"]).to_pyarrow_table().num_rows
        wanted = (WRITERS + 1) * APPENDS
        print(f"{kind}: {rows} of {wanted} rows")
        return rows == wanted and all(writer.exitcode == 0 for writer in writers)
    finally:
        emulator.stdin.close()
        emulator.wait(30)


if __name__ == "__main__":
    verdicts = [judge(kind) for kind in sys.argv[1:] or ["s3", "azure", "gcs"]]
    sys.exit(0 if all(verdicts) else 1)
