//! Compiles the `.proto` files with protox (no `protoc` needed) and keeps the descriptor set for
//! server reflection and for reading job graphs from JSON.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "hurtig/v1/expr.proto",
        "hurtig/v1/graph.proto",
        "hurtig/v1/job_service.proto",
        "hurtig/v1/state.proto",
        "hurtig/internal/v1/cluster.proto",
        "hurtig/internal/v1/exchange.proto",
        "hurtig/internal/v1/ha.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".hurtig.internal.v1.DataFrame")
        .bytes(".hurtig.v1.ResultBatch")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
