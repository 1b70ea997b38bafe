//! Which image a container really has: the digest that its pods say. No registry is asked; what the
//! node has pulled, kubelet tells.

use serde_json::Value;

use super::super::object::Parts;

/// The image by its digest, if a pod's `imageID` says it: of the very repository, for a node may
/// know the same bytes by several names, and an image that was put there by hand by none.
pub(super) fn digest(image: &str, image_id: &str) -> Option<String> {
    let id = image_id.split_once("://").map_or(image_id, |(_, id)| id);
    let (repository, digest) = id.split_once('@')?;
    let own = without_tag(image);
    (full(repository) == full(own)).then(|| format!("{own}@{digest}"))
}

/// What the first pod that says so has for an image of a container. `list` is where pods keep it.
pub(super) fn of_pods(image: &str, name: &str, pods: &[Value], list: &str) -> Option<String> {
    let mut pods: Vec<&Value> = pods.iter().collect();
    pods.sort_by_key(|pod| (pod.text("/metadata/creationTimestamp"), pod.text("/metadata/name")));
    let statuses = pods.into_iter().flat_map(|pod| pod.list(list));
    let of_it = statuses.filter(|status| status.text("/name") == name);
    of_it.map(|status| status.text("/imageID")).find_map(|id| digest(image, id))
}

/// A reference without its tag: what is behind a colon in the last part of its path.
fn without_tag(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let last = image.rfind('/').map_or(0, |at| at + 1);
    image[last..].find(':').map_or(image, |at| &image[..last + at])
}

/// A repository as nodes write it: with the registry, and `library` where Docker Hub leaves it out
/// (`distribution/reference`).
fn full(repository: &str) -> String {
    let is_registry =
        |first: &str| first.contains('.') || first.contains(':') || first == "localhost";
    let (registry, path) = match repository.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => ("docker.io", repository),
    };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    let library = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
    format!("{registry}/{library}{path}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_digest_is_of_the_repository() {
        for (image, id, expected) in [
            ("app", "docker.io/library/app@sha256:1", Some("app@sha256:1")),
            ("app:v1", "docker-pullable://app@sha256:1", Some("app@sha256:1")),
            ("me/app:v1", "docker.io/me/app@sha256:1", Some("me/app@sha256:1")),
            (
                "reg.example:5000/a/b:v1",
                "reg.example:5000/a/b@sha256:1",
                Some("reg.example:5000/a/b@sha256:1"),
            ),
            ("localhost/a:v1", "localhost/a@sha256:1", Some("localhost/a@sha256:1")),
            (
                "index.docker.io/me/a",
                "docker.io/me/a@sha256:1",
                Some("index.docker.io/me/a@sha256:1"),
            ),
            ("app@sha256:1", "docker.io/library/app@sha256:1", Some("app@sha256:1")),
            // The same bytes by another name; no name at all.
            ("app", "docker.io/library/import-2026@sha256:1", None),
            ("ghcr.io/me/app", "docker.io/me/app@sha256:1", None),
            ("app", "sha256:1", None),
            ("app", "", None),
        ] {
            assert_eq!(digest(image, id).as_deref(), expected, "{image} {id}");
        }
    }

    #[test]
    fn the_oldest_pod_that_has_one_says_it() {
        let pod = |name: &str, created: &str, id: &str| {
            json!({
                "metadata": {"name": name, "creationTimestamp": created},
                "status": {"containerStatuses": [
                    {"name": "side", "imageID": "docker.io/library/side@sha256:9"},
                    {"name": "user", "imageID": id}]},
            })
        };
        let pods = [
            pod("c", "3", "docker.io/library/app@sha256:3"),
            pod("a", "1", ""),
            pod("b", "2", "docker.io/library/app@sha256:2"),
        ];
        let list = "/status/containerStatuses";
        assert_eq!(of_pods("app:v1", "user", &pods, list).as_deref(), Some("app@sha256:2"));
        assert_eq!(of_pods("app:v1", "other", &pods, list), None);
        assert_eq!(of_pods("app:v1", "user", &[], list), None);
    }
}
