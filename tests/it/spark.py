"""Reads and writes Delta tables with Apache Spark and delta-spark, in one JVM that is started once.

JSON lines as `reader.py` talks them, values in the same canonical spelling. Spark's rows come as Arrow, so that the last
bit of a float counts. `{t}` in SQL stands for the table at the request's path.

  {"op": "rows",  "path": DIR, "version": N or null, "columns": [..] or null}
  {"op": "sql",   "path": DIR, "version": N or null, "sql": "select .. from t"}   the table is called t
  {"op": "scan",  as sql}                       the same, looking at every row of every file
  {"op": "exec",  "path": DIR, "sql": "delete from {t} where .."}                 a statement
  {"op": "types", "path": DIR}                  columns and their types, as Spark calls them
  {"op": "cdf",   "path": DIR, "version": N, "columns": [..]}                     table_changes from version N on
  {"op": "streamed", "path": DIR, "version": N, "columns": [..], "to": DIR}       rows that a stream of the table brings
"""

import atexit
import json
import os
import shutil
import sys
import tempfile

import pyarrow as pa

from reader import spell_column


def session():
    from pyspark.sql import SparkSession

    jars = os.environ["STRANDLINE_SPARK_JARS"]
    scratch = tempfile.mkdtemp(prefix="strandline-spark-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    builder = (
        SparkSession.builder.master("local[2]")
        .appName("strandline tests")
        .config("spark.jars", jars)
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        # Else a vacuum lists in 10,000 tasks.
        .config("spark.sql.sources.parallelPartitionDiscovery.parallelism", "2")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        .config("spark.databricks.delta.retentionDurationCheck.enabled", "false")
        .config("spark.sql.warehouse.dir", os.path.join(scratch, "warehouse"))
        .config("spark.local.dir", os.path.join(scratch, "local"))
        .config("spark.driver.memory", "1536m")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
    )
    return builder.getOrCreate()


_spark = None


def spark():
    global _spark
    if _spark is None:
        _spark = session()
    return _spark


def quote(name):
    return "`" + name.replace("`", "``") + "`"


def named(path):
    return "delta." + quote(path)


def table(path, version):
    reader = spark().read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", int(version))
    return reader.load(path)


def spelled(frame):
    """Rows of a frame. `toArrow` came with Spark 4; what it does is older."""
    # Two columns may have one name here.
    frame = frame.toDF(*(f"c{i}" for i in range(len(frame.columns))))
    if hasattr(frame, "toArrow"):
        read = frame.toArrow()
    else:
        batches = frame._collect_as_arrow()
        if not batches:
            return []
        read = pa.Table.from_batches(batches)
    return list(zip(*(spell_column(column) for column in read.columns)))


def answer(request):
    op = request["op"]
    if op == "version":
        return {"rows": [[spark().version]]}
    path = request["path"]
    version = request.get("version")
    if op == "rows":
        frame = table(path, version)
        columns = request.get("columns")
        return {"rows": spelled(frame if columns is None else frame.select(*map(quote, columns)))}
    if op in ("sql", "scan"):
        frame = table(path, version)
        if op == "scan":
            # Nothing is pushed below what stands in memory.
            frame = frame.localCheckpoint()
        frame.createOrReplaceTempView("t")
        return {"rows": spelled(spark().sql(request["sql"]))}
    if op == "exec":
        rows = spark().sql(request["sql"].replace("{t}", named(path))).collect()
        return {"rows": [[None if cell is None else str(cell) for cell in row] for row in rows]}
    if op == "types":
        return {"rows": [[field.name, field.dataType.simpleString()] for field in table(path, version).schema]}
    if op == "cdf":
        wanted = request["columns"] + ["_change_type", "_commit_version"]
        literal = path.replace("\\", "\\\\").replace("'", "\\'")
        frame = spark().sql(f"select * from table_changes_by_path('{literal}', {int(version)})")
        return {"rows": spelled(frame.select(*map(quote, wanted)))}
    if op == "streamed":
        reader = spark().readStream.format("delta").option("startingVersion", int(version))
        for key, value in request.get("options", {}).items():
            reader = reader.option(key, value)
        to = request["to"]
        query = (
            reader.load(path)
            .select(*map(quote, request["columns"]))
            .writeStream.format("parquet")
            .option("checkpointLocation", os.path.join(to, "checkpoint"))
            .option("path", os.path.join(to, "rows"))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        return {"rows": spelled(spark().read.parquet(os.path.join(to, "rows")))}
    raise ValueError(f"unknown op {op}")


def reason(error):
    """An error's first lines: Spark's hold the whole stack."""
    return f"{type(error).__name__}: {error}"[:2000]


def main():
    # What Spark and its start say goes to stderr: stdout is the answers' alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            reply = {"ok": True, **answer(json.loads(line))}
        except Exception as error:  # every failure is the caller's to judge
            reply = {"ok": False, "error": reason(error)}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
    if _spark is not None:
        _spark.stop()


if __name__ == "__main__":
    main()
