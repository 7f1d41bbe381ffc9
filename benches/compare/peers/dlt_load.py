"""dlt, from one table of Postgres into a Delta table on this machine: dlt_load.py <settings as JSON>.

The first load takes the whole table; a later one takes the rows whose cursor column is at or after `since`, and merges them by key
(dlt's strategy `upsert`, which is delta-rs MERGE). Rows that the source has deleted have no cursor and are not seen.
Settings: folder, url, table, key, cursor, since (none for the first load).
"""

import datetime
import json
import os
import sys

import dlt
from dlt.sources.sql_database import sql_table


def main(settings):
    folder = settings["folder"]
    pipeline = dlt.pipeline(
        "peers",
        pipelines_dir=os.path.join(folder, "state"),
        destination=dlt.destinations.filesystem(bucket_url=f"file://{folder}/out"),
        dataset_name="lake",
    )
    first = settings["since"] is None
    schema, table = settings["table"].split(".")
    rows = sql_table(
        credentials=settings["url"],
        schema=schema,
        table=table,
        backend="connectorx",
        backend_kwargs={"return_type": "arrow"},
        reflection_level="full_with_precision",
        incremental=None
        if first
        else dlt.sources.incremental(
            settings["cursor"], initial_value=datetime.datetime.fromisoformat(settings["since"])
        ),
        primary_key=settings["key"],
        write_disposition="append" if first else {"disposition": "merge", "strategy": "upsert"},
    )
    rows.apply_hints(table_format="delta")
    # After a kill dlt first loads what it had extracted, and ignores what else it is given in that run.
    if pipeline.has_pending_data:
        pipeline.run()
    pipeline.run(rows)


main(json.loads(sys.argv[1]))
