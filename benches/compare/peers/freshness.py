"""From source commit to queryable, by the lake alone: freshness.py <table folder>...

A row of a version is queryable from the moment at which the version's commit file appeared (its modification time). Copied rows and
rows that compaction has only moved do not count. Prints, over all tables, {"rows", "p50", "p99", "max"} in seconds, and the number of
files that the newest versions consist of, {"files", "tables"}.
"""

import json
import pathlib
import sys
import urllib.parse

import numpy
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

lags, live = [], 0
for folder in map(pathlib.Path, sys.argv[1:]):
    added = {}
    for commit in sorted((folder / "_delta_log").glob("*.json")):
        if not commit.stem.isdigit():
            continue
        appeared = commit.stat().st_mtime_ns // 1000
        for action in map(json.loads, commit.read_text().splitlines()):
            if "remove" in action:
                added.pop(action["remove"]["path"], None)
            if "add" not in action:
                continue
            add = action["add"]
            added[add["path"]] = True
            file = folder / urllib.parse.unquote(add["path"])
            # A deletion vector adds a file again; its rows were new in the version that wrote it.
            if not add["dataChange"] or add.get("deletionVector") or not file.exists():
                continue
            names = pq.read_schema(file).names
            wanted = [name for name in ("_lg_committed_at", "_lg_op") if name in names]
            rows = pq.read_table(file, columns=wanted, partitioning=None)
            if "_lg_op" in wanted:
                rows = rows.filter(pc.not_equal(rows["_lg_op"].cast(pa.string()), "r"))
            committed = rows["_lg_committed_at"].drop_null().cast(pa.timestamp("us", "UTC")).cast(pa.int64())
            lags.append(appeared - committed.to_numpy())
    live += len(added)

lag = numpy.concatenate(lags) / 1e6 if lags else numpy.array([])
assert lag.size, "no streamed row was found"
p50, p99 = numpy.percentile(lag, [50, 99])
print(json.dumps({"rows": lag.size, "p50": p50, "p99": p99, "max": lag.max(), "files": live, "tables": len(sys.argv) - 1}))
