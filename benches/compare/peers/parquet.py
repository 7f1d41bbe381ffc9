"""What a table's rows cost to write as plain Parquet: parquet.py <table> <folder for the files>.

The rows are read into memory first; only the writing is timed, on one thread, with the row groups and the compression of Lockgate's own
files. Prints {"rows": n, "cpu_seconds": s}.
"""

import json
import os
import sys
import time

import pyarrow.parquet as pq
from deltalake import DeltaTable

table, folder = sys.argv[1:3]
os.makedirs(folder)
rows, seconds = 0, 0.0
for number, uri in enumerate(DeltaTable(table).file_uris()):
    held = pq.read_table(uri.removeprefix("file://")).combine_chunks()
    before = time.process_time()
    pq.write_table(held, f"{folder}/{number}.parquet", compression="zstd", compression_level=1, row_group_size=128 * 1024)
    seconds += time.process_time() - before
    rows += held.num_rows
print(json.dumps({"rows": rows, "cpu_seconds": seconds}))
