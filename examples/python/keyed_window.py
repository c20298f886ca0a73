"""Submits a job graph to Hurtig over gRPC and prints its result.

The graph counts generated bids and takes their highest price for each auction in windows of ten
seconds of event time: source -> watermark -> (hash by auction) -> window aggregate -> collect. The
client needs nothing of Hurtig but its .proto files; `make example-python` generates the stubs, starts
a cluster and runs this file with the JobManager's address.
"""

import sys
import uuid

import grpc
import pyarrow as pa

from hurtig.v1 import expr_pb2 as ex
from hurtig.v1 import graph_pb2 as g
from hurtig.v1 import job_service_pb2 as js
from hurtig.v1 import job_service_pb2_grpc as service

ROW_KINDS = ["+I", "-U", "+U", "-D"]


def schema(*columns):
    return g.Schema(fields=[g.Field(name=name, type=type_) for name, type_ in columns])


def vertex(vertex_id, parallelism=1, **operator):
    return g.Vertex(id=vertex_id, parallelism=parallelism, operator=g.Operator(name=vertex_id, **operator))


def edge(source, target, partitioner):
    return g.Edge(**{"from": source, "to": target}, partitioner=partitioner)


def keyed_window_graph():
    forward = g.Partitioner(forward=g.Forward())
    by_auction = g.Partitioner(hash=g.Hash(column_names=["auction"]))
    gather = g.Partitioner(**{"global": g.Global()})
    return g.JobGraph(
        name="bids per auction",
        vertices=[
            vertex("bids", source=g.Source(
                options={
                    "connector": "datagen",
                    "number-of-rows": "20000",
                    "fields.auction.kind": "random", "fields.auction.min": "1", "fields.auction.max": "5",
                    "fields.price.kind": "random", "fields.price.min": "1", "fields.price.max": "1000",
                    "fields.n.kind": "sequence", "fields.n.start": "0", "fields.n.end": "19999",
                },
                schema=schema(("auction", "BIGINT"), ("price", "BIGINT"), ("n", "BIGINT")))),
            vertex("with time", calc=g.Calc(projections=[
                g.NamedExpr(name="auction", expr=ex.Expr(sql="auction")),
                g.NamedExpr(name="price", expr=ex.Expr(sql="price")),
                g.NamedExpr(name="ts", expr=ex.Expr(sql="TIMESTAMPADD(SECOND, CAST(n / 500 AS INT), TIMESTAMP '2024-01-01 00:00:00.000')")),
            ])),
            vertex("watermark", watermark=g.WatermarkAssigner(
                rowtime_name="ts", expr=ex.Expr(sql="ts - INTERVAL '1' SECOND"))),
            vertex("windows", parallelism=2, window_aggregate=g.WindowAggregate(
                window=g.WindowSpec(kind=g.TUMBLE, time_name="ts", size_ms=10_000),
                key_names=["auction"],
                aggregates=[
                    g.AggregateCall(function="COUNT", name="bids"),
                    g.AggregateCall(function="MAX", argument_names=["price"], name="highest"),
                ])),
            vertex("collect", sink=g.Sink(options={"connector": "collect"})),
        ],
        edges=[
            edge("bids", "with time", forward),
            edge("with time", "watermark", forward),
            edge("watermark", "windows", by_auction),
            edge("windows", "collect", gather),
        ],
    )


def results(stub, job_id):
    """Record batches with the row kinds beside them."""
    payloads, kinds = bytearray(), bytearray()
    for part in stub.CollectResults(js.CollectResultsRequest(job_id=job_id)):
        payloads += part.arrow_ipc
        kinds += part.row_kinds
    if not payloads:
        return None, kinds
    return pa.ipc.open_stream(bytes(payloads)).read_all(), kinds


def main():
    channel = grpc.insecure_channel(sys.argv[1])
    stub = service.JobServiceStub(channel)
    job_id = uuid.uuid4().hex
    request = js.SubmitJobGraphRequest(job_id=job_id, graph=keyed_window_graph())
    print("submitted", stub.SubmitJobGraph(request).job_id)
    # The same id again starts nothing.
    assert not stub.SubmitJobGraph(request).created
    table, _ = results(stub, job_id)
    for row in sorted(table.to_pylist(), key=lambda r: (r["window_start"], r["auction"])):
        print(row["window_start"], "auction", row["auction"], "bids", row["bids"], "highest", row["highest"])
    total = sum(row["bids"] for row in table.to_pylist())
    state = stub.DescribeJob(js.DescribeJobRequest(job_id=job_id)).status.state
    print(f"{total} bids in {table.num_rows} windows, job {state}")
    assert total == 20_000, total


if __name__ == "__main__":
    main()
