//! Ways to a revision besides a service's own host.

use crate::client::{empty, get, h1, request, send1};
use crate::serving::{Tidegate, host};

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: config-features, namespace: knative-serving}
data: {tag-header-based-routing: "enabled"}
---
apiVersion: serving.knative.dev/v1
kind: Revision
metadata: {name: shop-blue, labels: {serving.knative.dev/service: shop}}
spec:
  containers: [{image: example/app, command: [tidegate, echo], env: [{name: TARGET, value: blue}]}]
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: shop}
spec:
  template:
    metadata: {name: shop-green}
    spec:
      containers: [{image: example/app, command: [tidegate, echo], env: [{name: TARGET, value: green}]}]
  traffic:
    - {revisionName: shop-blue, percent: 100, tag: blue}
    - {revisionName: shop-green, percent: 0, tag: green}
---
apiVersion: serving.knative.dev/v1beta1
kind: DomainMapping
metadata: {name: shop.example.org}
spec: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: shop}}
"#;

#[tokio::test]
async fn the_tag_header_and_a_mapped_domain_lead_to_the_revision() {
    let tidegate = Tidegate::serve(MANIFEST);
    let at = tidegate.address();
    for (tag, expected) in [("green", "green"), ("blue", "blue"), ("none", "blue")] {
        let tagged = request("GET", &host("shop"), "/").header("knative-serving-tag", tag);
        let answer = send1(&mut h1(at).await, tagged.body(empty()).unwrap()).await;
        assert_eq!(answer.text().trim(), format!("Hello {expected}!"), "tag {tag}");
    }
    assert_eq!(get(at, "shop.example.org", "/").await.text().trim(), "Hello blue!");
}
