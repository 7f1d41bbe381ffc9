#!/usr/bin/env python3
"""Writes to a Delta table as other programs do, and says of each operation whether it was done or refused.

    foreign_writes.py TABLE      compact, delete, update, restore, vacuum, add a column, set a property, write a log checkpoint

Prints `done NAME` or `refused NAME REASON` for each.
"""

import sys


def attempt(name, operation):
    try:
        operation()
        print("done", name)
    except Exception as error:  # every kind of refusal counts
        print("refused", name, type(error).__name__)


def write(path):
    from deltalake import DeltaTable, Field
    from deltalake.schema import PrimitiveType

    def table():
        return DeltaTable(path)

    attempt("compact", lambda: table().optimize.compact())
    attempt("delete", lambda: table().delete("id = 2"))
    attempt("update", lambda: table().update(updates={"note": "'theirs'"}, predicate="id = 3"))
    attempt("restore", lambda: table().restore(1))
    attempt("add column", lambda: table().alter.add_columns([Field("theirs", PrimitiveType("string"))]))
    attempt("property", lambda: table().alter.set_table_properties({"delta.logRetentionDuration": "interval 40 days"}))
    attempt("vacuum", lambda: table().vacuum(dry_run=False))
    attempt("checkpoint", lambda: table().create_checkpoint())


if __name__ == "__main__":
    write(sys.argv[1])
