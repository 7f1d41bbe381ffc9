"""What DuckDB reads from Delta tables, as one number each: digest.py <file of lines "folder<TAB>SQL of a row as text">.

Prints {"tables": [[rows, sum], ...]}: the sum over the first 32 bits of each row's MD5. The order of rows does not matter; a row that is lost,
doubled or different does.
"""

import json
import sys

import duckdb
import duckdb_ext

connection = duckdb_ext.init(duckdb.connect())
connection.execute("set autoinstall_known_extensions = false; set timezone = 'UTC'; set enable_progress_bar = false; load delta")
found = []
with open(sys.argv[1]) as lines:
    for line in lines:
        folder, row = line.rstrip("\n").split("\t")
        sql = f"select count(*), coalesce(sum(('0x' || substr(md5({row}), 1, 8))::bigint), 0)::varchar from delta_scan(?)"
        rows, digest = connection.execute(sql, [folder]).fetchone()
        found.append([rows, digest])
print(json.dumps({"tables": found}))
