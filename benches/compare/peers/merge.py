"""delta-rs MERGE of changed keys into a plain copy of a Lake table: merge.py <table> <folder for the copy> <rows> <keys> <runs>.

The copy holds the table's own rows in files of the same size, without deletion vectors, which delta-rs cannot merge into. Only the
merge itself is timed. Prints {"seconds": [...], "peak_bytes": n}.
"""

import json
import resource
import sys
import time

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

table, copy, rows, keys, runs = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
STRIDE = 7_368_787  # as in upsert.rs: it has no factor in common with the sizes, so the keys are scattered and differ

files = [uri.removeprefix("file://") for uri in DeltaTable(table).file_uris()]
schema = pq.read_schema(files[0])


def batches():
    for file in files:
        yield from pq.ParquetFile(file).iter_batches(batch_size=65_536)


write_deltalake(copy, pa.RecordBatchReader.from_batches(schema, batches()), target_file_size=1 << 30)

seconds = []
for run in range(runs):
    wanted = (numpy.arange(keys, dtype="int64") * STRIDE + run) % rows + 1
    current = DeltaTable(copy)
    chosen = [
        pq.read_table(uri.removeprefix("file://"), schema=schema, filters=[("id", "in", wanted.tolist())])
        for uri in current.file_uris()
    ]
    source = pa.concat_tables(chosen, promote_options="permissive")
    assert source.num_rows == keys, f"{source.num_rows} keys found"
    at = source.schema.get_field_index("status")
    source = source.set_column(at, "status", pa.array([f"changed {run}"] * keys, source.schema.field(at).type))
    started = time.perf_counter()
    done = (
        current.merge(source, predicate="t.id = s.id", source_alias="s", target_alias="t").when_matched_update_all().execute()
    )
    seconds.append(time.perf_counter() - started)
    assert done["num_target_rows_updated"] == keys, done
print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
