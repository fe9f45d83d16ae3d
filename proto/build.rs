//! Generates the gRPC contract from `node.proto`; needs `protoc` (Debian: protobuf-compiler).

fn main() -> std::io::Result<()> {
    tonic_prost_build::compile_protos("node.proto")
}
