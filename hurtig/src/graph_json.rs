//! Job graphs as JSON: the standard JSON form of the protocol buffers message `hurtig.v1.JobGraph`.

use hurtig_graph::ErrorKind;
use hurtig_proto::v1;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::error::{Error, Result};

/// Reads a job graph. `origin` names the text in errors.
///
/// # Errors
/// With line and column, when the text is not JSON or has a field that a job graph does not have.
pub fn from_json(text: &str, origin: &str) -> Result<v1::JobGraph> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let wrong = |reason: String| {
        Error::new(ErrorKind::Parse, format!("{origin} is not a job graph: {reason}; see docs/job-graph-api.md"))
    };
    let message = DynamicMessage::deserialize(descriptor()?, &mut deserializer).map_err(|e| wrong(e.to_string()))?;
    deserializer.end().map_err(|e| wrong(e.to_string()))?;
    message.transcode_to().map_err(|e| wrong(e.to_string()))
}

/// Writes a job graph, indented.
///
/// # Errors
/// Never for a graph that was made by this library.
pub fn to_json(graph: &v1::JobGraph) -> Result<String> {
    let broken = |reason: String| Error::new(ErrorKind::Internal, format!("cannot write a job graph: {reason}"));
    let mut message = DynamicMessage::new(descriptor()?);
    message.transcode_from(graph).map_err(|e| broken(e.to_string()))?;
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::pretty(&mut text);
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    message.serialize_with_options(&mut serializer, &options).map_err(|e| broken(e.to_string()))?;
    String::from_utf8(text).map_err(|e| broken(e.to_string()))
}

fn descriptor() -> Result<prost_reflect::MessageDescriptor> {
    let broken = |reason: String| Error::new(ErrorKind::Internal, format!("the built-in descriptors: {reason}"));
    let pool = DescriptorPool::decode(hurtig_proto::DESCRIPTORS).map_err(|e| broken(e.to_string()))?;
    pool.get_message_by_name("hurtig.v1.JobGraph").ok_or_else(|| broken("no hurtig.v1.JobGraph".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAPH: &str = r#"{
        "name": "counts",
        "vertices": [
            {"id": "in", "operator": {"source": {
                "options": {"connector": "datagen"},
                "schema": {"fields": [{"name": "k", "type": "STRING"}]}}}},
            {"id": "count", "parallelism": 2, "operator": {"group_aggregate": {
                "key_names": ["k"], "aggregates": [{"function": "COUNT", "name": "n"}], "emit_update_before": true}}},
            {"id": "out", "operator": {"sink": {"options": {"connector": "collect"}}}}
        ],
        "edges": [{"from": "in", "to": "count"}, {"from": "count", "to": "out"}]
    }"#;

    #[test]
    fn json_round_trips() {
        let graph = from_json(GRAPH, "graph.json").unwrap();
        assert_eq!((graph.vertices.len(), graph.edges.len(), graph.vertices[1].parallelism), (3, 2, 2));
        assert_eq!(from_json(&to_json(&graph).unwrap(), "again").unwrap(), graph);
    }

    #[test]
    fn unknown_fields_and_broken_text_are_refused_with_their_place() {
        let error = from_json(&GRAPH.replace("key_names", "keynames"), "graph.json").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Parse);
        let text = error.to_string();
        assert!(text.starts_with("graph.json is not a job graph: ") && text.contains("keynames"), "{text}");
        assert!(from_json("{\"name\": 1}", "x").unwrap_err().to_string().contains("line 1"));
        assert!(from_json("{} {}", "x").is_err());
    }
}
