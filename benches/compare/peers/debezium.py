"""Debezium's embedded engine (pydbzengine), from one table of Postgres into a Delta table: debezium.py <settings as JSON>.

The sink is one of
  nowhere  counts events and throws them away, not even made into JSON: the engine's best case;
  current  keeps a Delta table current: a batch is reduced to the last change of each key and merged by delta-rs;
  log      appends every event to a Delta table, as it comes.

It ends when `until` is reached, {"rows": so many events} or {"remark": the text of this column in the last change}, and the engine has
written its offset. Settings: folder, sink, host, port, database, table, slot, columns ([name, type of Postgres] each), key, until.
"""

import json
import os
import pathlib
import sys
import threading
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from deltalake import DeltaTable, write_deltalake
from pydbzengine import BasePythonChangeHandler, DebeziumEngine

BATCH = 100_000  # events that the engine hands over at most: its default of 2,048 would mean a MERGE for each 2,048 changes
WAIT_MS = 500
PATIENCE_S = 60


def arrow_type(postgres):
    """The column's type in the Delta table, and the type in which Debezium's JSON carries it."""
    if postgres in ("smallint", "integer", "bigint"):
        width = {"smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64()}[postgres]
        return width, pa.int64()
    if postgres.startswith("numeric("):
        precision, scale = postgres.removeprefix("numeric(").rstrip(")").split(",")
        return pa.decimal128(int(precision), int(scale)), pa.string()
    if postgres == "date":
        return pa.date32(), pa.int32()
    return (pa.timestamp("us", "UTC") if postgres == "timestamp with time zone" else pa.string()), pa.string()


class Sink(BasePythonChangeHandler):
    """Counts what it is handed, and says when the end has come."""

    def __init__(self, settings):
        self.until = settings["until"]
        self.offsets = pathlib.Path(settings["folder"], "offsets")
        self.seen = 0
        self.done = threading.Event()
        self.written_before = 0

    def handleJsonBatch(self, records):
        self.seen += len(records)
        if self.seen >= self.until["rows"]:
            self.end()

    def end(self):
        """Everything is taken; the engine marks the batch and writes its offset when the handler has returned."""
        self.written_before = self.written()
        self.done.set()

    def written(self):
        """When the engine last wrote its offset, 0 if never."""
        return self.offsets.stat().st_mtime_ns if self.offsets.exists() else 0


class DeltaSink(Sink):
    """Writes batches to the Delta table."""

    def __init__(self, settings):
        super().__init__(settings)
        self.table = os.path.join(settings["folder"], "table")
        self.key = settings["key"]
        self.merges = settings["sink"] == "current"
        types = {name: arrow_type(postgres) for name, postgres in settings["columns"]}
        self.names = list(types)
        self.schema = pa.schema([(name, stored) for name, (stored, _) in types.items()])
        extra = [("__op", pa.string()), ("__source_lsn", pa.int64())]
        self.parsing = pyarrow.json.ParseOptions(
            explicit_schema=pa.schema([(name, carried) for name, (_, carried) in types.items()] + extra),
            unexpected_field_behavior="ignore",
        )
        self.reading = pyarrow.json.ReadOptions(block_size=64 << 20)

    def handleJsonBatch(self, records):
        rows = self.parse(records)
        if self.merges:
            self.bring_up_to_date(rows)
        else:
            write_deltalake(self.table, rows, mode="append")
        self.seen += rows.num_rows
        if self.reached(rows):
            self.end()

    def parse(self, records):
        text = "\n".join(str(record.value()) for record in records).encode()
        parsed = pyarrow.json.read_json(pa.BufferReader(text), self.reading, self.parsing)
        columns = [pc.cast(parsed[field.name], field.type) for field in self.schema]
        return pa.table(
            columns + [parsed["__op"], parsed["__source_lsn"]], names=self.names + ["__op", "__source_lsn"]
        )

    def reached(self, rows):
        if "rows" in self.until:
            return self.seen >= self.until["rows"]
        return pc.any(pc.equal(rows["remark"], self.until["remark"])).as_py() or False

    def bring_up_to_date(self, rows):
        if pc.all(pc.equal(rows["__op"], "r")).as_py():
            write_deltalake(self.table, rows.select(self.names), mode="append")
            return
        numbered = rows.append_column("number", pa.array(range(rows.num_rows), pa.int64()))
        last = numbered.group_by(self.key).aggregate([("number", "max")])["number_max"]
        (
            DeltaTable(self.table)
            .merge(
                rows.take(last),
                predicate=" and ".join(f"t.{column} = s.{column}" for column in self.key),
                source_alias="s",
                target_alias="t",
            )
            .when_matched_delete(predicate="s.__op = 'd'")
            .when_matched_update(updates={column: f"s.{column}" for column in self.names})
            .when_not_matched_insert(
                updates={column: f"s.{column}" for column in self.names}, predicate="s.__op <> 'd'"
            )
            .execute()
        )


def properties(settings):
    folder = settings["folder"]
    schema, table = settings["table"].split(".")
    return {
        "name": "bench",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": settings["host"],
        "database.port": settings["port"],
        "database.user": "postgres",
        "database.password": "",
        "database.dbname": settings["database"],
        "topic.prefix": "bench",
        "plugin.name": "pgoutput",
        "slot.name": settings["slot"],
        "publication.name": settings["slot"],
        "publication.autocreate.mode": "filtered",
        "table.include.list": f"{schema}.{table}",
        "tombstones.on.delete": "false",
        "snapshot.mode": "initial",
        "snapshot.fetch.size": 10_000,
        "snapshot.max.threads": 2,
        # Kafka Connect's own file of positions, written after each batch and not once a minute.
        "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.storage.file.filename": os.path.join(folder, "offsets"),
        "offset.flush.interval.ms": 0,
        "max.batch.size": BATCH,
        "max.queue.size": 2 * BATCH,
        "poll.interval.ms": WAIT_MS,
    }


# The smallest JSON that still says everything: no schemas, numbers as text, the row alone instead of before and after.
SMALL_JSON = {
    "converter.schemas.enable": "false",
    "decimal.handling.mode": "string",
    "transforms": "unwrap",
    "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
    "transforms.unwrap.delete.tombstone.handling.mode": "rewrite",
    "transforms.unwrap.add.fields": "op,source.lsn",
}


def engine_for(settings):
    """The engine, with the JVM's settings that pydbzengine brings, and its sink."""
    if settings["sink"] == "nowhere":
        sink = Sink(settings)
        return DebeziumEngine(properties(settings), sink, format="connect"), sink
    sink = DeltaSink(settings)
    return DebeziumEngine(properties(settings) | SMALL_JSON, sink, format="json"), sink


def fail(why):
    """Ends at once: an orderly end would wait for threads of the engine that do not come back."""
    print(why, file=sys.stderr, flush=True)
    os._exit(1)


def main(settings):
    engine, sink = engine_for(settings)
    running = threading.Thread(target=engine.run, daemon=True)
    running.start()
    while not sink.done.wait(0.05):
        if not running.is_alive():
            fail("the engine has ended by itself")
    deadline = time.monotonic() + PATIENCE_S
    while sink.written() == sink.written_before:
        if time.monotonic() > deadline:
            fail("the engine has not written its offset")
        time.sleep(0.01)
    print(json.dumps({"events": sink.seen}), flush=True)
    # The position is written, so nothing is lost. An orderly stop would first wait out the engine's poll, and count against it.
    os._exit(0)


main(json.loads(sys.argv[1]))
