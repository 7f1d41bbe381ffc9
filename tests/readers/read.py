#!/usr/bin/env python3
"""What outside readers see in a Delta table, in one canonical form, so that a test can hold it against what Lockgate sees.

    read.py all PATH [--rows]    one JSON line per reader
    read.py compare PATH...      a table per path; exit 1 when two readers differ

    --version N            the table at that version
    --columns a,b          only these columns
    --readers duckdb,sail  only these readers

The canonical form of a row is a JSON object with its keys in order, no spaces, and every value as text: integers and decimals in
plain digits, booleans as true/false, floats as the 16 hex digits of their 64 bits, dates as 2026-01-31, timestamps as microseconds since
1970 (UTC), bytes as hex, lists and structs as their canonical JSON; null stays null. `hash` is SHA-256 over the sorted rows (by bytes),
each followed by a newline.

A line: {"reader", "ok": true, "count", "hash", "columns"} and "rows" when asked; {"reader", "ok": false, "error"} when the reader failed
(the text is the reader's own); {"reader", "ok": false, "skipped"} when it cannot do what was asked.
"""

import argparse
import datetime
import hashlib
import json
import os
import struct
import sys
import uuid
import warnings
from decimal import Decimal


class CannotDo(Exception):
    """The reader has no way to do what was asked."""


def deltalake(path, version):
    from deltalake import DeltaTable, QueryBuilder
    import pyarrow

    table = DeltaTable(path, version=version)
    return pyarrow.table(QueryBuilder().register("t", table).execute("select * from t"))


def polars(path, version):
    import polars

    return polars.scan_delta(path, version=version).collect().to_arrow()


def duckdb(path, version):
    if version is not None:
        raise CannotDo("duckdb 1.4.4 reads the newest version only")
    import duckdb
    import duckdb_ext

    connection = duckdb_ext.init(duckdb.connect())
    connection.execute("set autoinstall_known_extensions = false; set timezone = 'UTC'; load delta")
    return connection.execute("select * from delta_scan(?)", [path]).fetch_arrow_table()


SAIL = {}


def sail(path, version):
    # Sail shares no code with delta_kernel or delta-rs: the one independent judge.
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    if not SAIL:
        SAIL["server"] = SparkConnectServer("127.0.0.1", 0)
        SAIL["server"].start(background=True)
        _, port = SAIL["server"].listening_address
        SAIL["session"] = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
        SAIL["session"].conf.set("spark.sql.session.timeZone", "UTC")
    reader = SAIL["session"].read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", str(version))
    return reader.load(path).toArrow()


READERS = {"deltalake": deltalake, "polars": polars, "duckdb": duckdb, "sail": sail}


def canonical(value):
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        since = value - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        return str((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return dump([canonical(item) for item in value])
    if isinstance(value, dict):
        return dump({key: canonical(item) for key, item in value.items()})
    if isinstance(value, uuid.UUID):
        return str(value)
    return struct.pack(">d", value).hex() if isinstance(value, float) else str(value)


def dump(value):
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def rows_of(table, wanted):
    import pyarrow

    if wanted:
        table = table.select(wanted)

    columns = []
    for name, column in zip(table.column_names, table.columns):
        # As whole numbers, because Python's datetime ends at the year 9999 and knows no more than its own time zones.
        if pyarrow.types.is_timestamp(column.type):
            column = column.cast(pyarrow.timestamp("us", column.type.tz)).cast(pyarrow.int64())
        columns.append((name, column.to_pylist()))
    lines = [dump({name: canonical(values[at]) for name, values in columns}) for at in range(table.num_rows)]
    return sorted(lines, key=str.encode)


def see(reader, path, version, columns=None):
    try:
        table = READERS[reader](path, version)
        rows = rows_of(table, columns)
    except CannotDo as why:
        return {"reader": reader, "ok": False, "skipped": str(why)}
    except Exception as error:  # a reader may fail in any way it likes: that is the finding
        return {"reader": reader, "ok": False, "error": f"{type(error).__name__}: {error}"}
    digest = hashlib.sha256("".join(row + "\n" for row in rows).encode()).hexdigest()
    names = columns or table.column_names
    return {"reader": reader, "ok": True, "count": len(rows), "hash": digest, "columns": names, "rows": rows}


def compare(path, version, readers, columns=None):
    """Prints what each reader sees; whether all see the same."""
    print(path)
    seen = [see(reader, path, version, columns) for reader in readers]
    for one in seen:
        what = f"{one['count']:>10} rows  {one['hash'][:16]}" if one["ok"] else one.get("skipped") or one["error"]
        print(f"  {one['reader']:<10}", what)
    judges = [one for one in seen if "skipped" not in one]
    same = len({one.get("hash") for one in judges}) == 1 and all(one["ok"] for one in judges)
    print("  all agree" if same else "  THEY DIFFER")
    return same


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["all", "compare"])
    parser.add_argument("paths", nargs="+", metavar="PATH")
    parser.add_argument("--version", type=int)
    parser.add_argument("--columns", type=lambda names: names.split(","))
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--rows", action="store_true")
    options = parser.parse_args()
    readers = options.readers.split(",")
    unknown = [reader for reader in readers if reader not in READERS]
    if unknown:
        parser.error(f"unknown reader {unknown[0]}; one of {', '.join(READERS)}")

    agreed = True
    for path in map(os.path.abspath, options.paths):
        if options.action == "compare":
            agreed &= compare(path, options.version, readers, options.columns)
            continue
        for reader in readers:
            found = see(reader, path, options.version, options.columns)
            if not options.rows:
                found.pop("rows", None)
            print(json.dumps(found, ensure_ascii=False))
    return 0 if agreed else 1


if __name__ == "__main__":
    # Spark's client warns about a newer pandas, and Sail's server logs each session: neither is news here.
    warnings.simplefilter("ignore")
    os.environ.setdefault("RUST_LOG", "error")
    status = main()
    sys.stdout.flush()
    # Sail's server has threads of its own that would keep the process alive.
    os._exit(status)
