//! What is gRPC (gRPC's `PROTOCOL-HTTP2.md`).

/// Whether a content type is gRPC's: not gRPC-Web's, which any HTTP carries, and which has its
/// trailers in the body.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_is_another_protocol() {
        let table = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpc-web-text", false),
            ("application/grpcish", false),
            ("application/json", false),
        ];
        for (value, expected) in table {
            assert_eq!(is_grpc(value.as_bytes()), expected, "{value}");
        }
    }
}
