"""Whether a Delta table holds the rows of the source: parity.py <settings as JSON>.

Settings: table (folder), source (a CSV file of two columns, key and MD5 of each row), key and row (SQL of a table's row as text, key and
whole). DuckDB reads the table. Prints {"rows", "missing", "extra", "different"}: rows of the table, keys that only the source or only the
table has (doubled keys count as extra), and keys that both have with other values.
"""

import json
import sys

import duckdb
import duckdb_ext

settings = json.loads(sys.argv[1])
connection = duckdb_ext.init(duckdb.connect())
connection.execute("set autoinstall_known_extensions = false; set timezone = 'UTC'; set enable_progress_bar = false; load delta")
connection.execute(
    f"""create table found as select {settings["key"]} as key, md5({settings["row"]}) as row from delta_scan(?)""",
    [settings["table"]],
)
connection.execute(
    "create table wanted as select * from read_csv(?, header = false, columns = {'key': 'varchar', 'row': 'varchar'})",
    [settings["source"]],
)
rows = connection.execute("select count(*) from found").fetchone()[0]
missing, extra, different = connection.execute(
    """
    with counted as (
        select key, count(*) as n, sum(hash(row)::hugeint) as rows from wanted group by key
    ), held as (
        select key, count(*) as n, sum(hash(row)::hugeint) as rows from found group by key
    )
    select coalesce(sum(greatest(coalesce(w.n, 0) - coalesce(h.n, 0), 0)), 0)::bigint,
           coalesce(sum(greatest(coalesce(h.n, 0) - coalesce(w.n, 0), 0)), 0)::bigint,
           coalesce(sum(case when w.n = h.n and w.rows <> h.rows then w.n else 0 end), 0)::bigint
    from counted as w full join held as h using (key)
    """
).fetchone()
print(json.dumps({"rows": rows, "missing": missing, "extra": extra, "different": different}))
