//! Generates the gRPC contracts; needs `protoc` (Debian: protobuf-compiler).

/// What a node tells about its data plane goes on to clients as JSON, named as Kubernetes names
/// fields; a client of another version may know fewer fields.
const AS_JSON: &str = "#[derive(serde::Serialize, serde::Deserialize)]\n\
                       #[serde(rename_all = \"camelCase\", default)]";

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .type_attribute(".minictl.dataplane.v1", AS_JSON)
        .type_attribute(".minictl.dns.v1", AS_JSON)
        .type_attribute(".minictl.lb.v1", AS_JSON)
        // No entry of those who asked for no mark has a word about it.
        .field_attribute(
            ".minictl.dns.v1.LogEntry.mark",
            "#[serde(skip_serializing_if = \"std::ops::Not::not\")]",
        )
        .compile_protos(&["node.proto", "dataplane.proto", "dns.proto", "lb.proto"], &["."])
}
