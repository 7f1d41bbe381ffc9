"""Whether a Delta table of events holds each once: events.py <table> <SQL of what tells two events apart> <SQL of those that count>.

DuckDB reads the table. Prints {"rows", "distinct"}.
"""

import json
import sys

import duckdb
import duckdb_ext

table, identity, counting = sys.argv[1:4]
connection = duckdb_ext.init(duckdb.connect())
connection.execute("set autoinstall_known_extensions = false; set enable_progress_bar = false; load delta")
rows, distinct = connection.execute(
    f"select count(*), count(distinct ({identity})) from delta_scan(?) where {counting}", [table]
).fetchone()
print(json.dumps({"rows": rows, "distinct": distinct}))
