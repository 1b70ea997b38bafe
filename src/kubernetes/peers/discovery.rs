//! Which proxies there are: the slices of the headless Service, which lists pods from the moment
//! that they have an address.

use std::net::{IpAddr, SocketAddr};

use kube::api::DynamicObject;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use serde_json::Value;

use super::SERVICE;
use super::roster::{Listed, Listing};
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::mirror::{Mirror, value};

/// Follows the list for good; `changed` is told it whenever it changes.
pub(super) async fn follow(client: &Client, namespace: &str, changed: impl Fn(&Listing)) {
    let api: Api<DynamicObject> = Kind::EndpointSlice.in_namespace(client, namespace);
    let config = Config::default().labels(&format!("kubernetes.io/service-name={SERVICE}"));
    let mirror: Mirror<Listing> = Mirror::default();
    let keep = |object: &DynamicObject| Some(pods(&value(object)));
    let told = |_: &_| {
        let mut listing = Listing::new();
        let mut slices = mirror.all();
        // A pod may be in two, one for each family: always the same one's address.
        slices.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, slice) in slices {
            for (uid, listed) in slice.iter() {
                listing.entry(uid.clone()).or_insert_with(|| listed.clone());
            }
        }
        changed(&listing);
    };
    mirror.follow(api, config, keep, told).await;
}

/// Pods of one slice.
fn pods(slice: &Value) -> Listing {
    let Some(port) = slice.pointer("/ports/0/port").and_then(Value::as_u64) else {
        return Listing::new();
    };
    let Ok(port) = u16::try_from(port) else { return Listing::new() };
    let endpoints = slice["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    let pod = |endpoint: &Value| {
        let uid = endpoint.pointer("/targetRef/uid")?.as_str()?.to_owned();
        let name = endpoint.pointer("/targetRef/name")?.as_str()?.into();
        let address: IpAddr = endpoint.pointer("/addresses/0")?.as_str()?.parse().ok()?;
        // `ready` is always true: the Service publishes what is not ready, too.
        let is_serving = endpoint.pointer("/conditions/serving").and_then(Value::as_bool);
        let is_serving = is_serving.unwrap_or(true);
        Some((uid, Listed { name, address: SocketAddr::new(address, port), is_serving }))
    };
    endpoints.iter().filter_map(pod).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_of_a_slice() {
        let endpoint = |uid: &str, address: &str, conditions: Value| {
            json!({"addresses": [address], "conditions": conditions,
                "targetRef": {"kind": "Pod", "uid": uid, "name": "x"}})
        };
        let slice = json!({"ports": [{"name": "peers", "port": 8445}], "endpoints": [
            endpoint("a", "10.0.0.1", json!({"ready": true, "serving": true})),
            endpoint("b", "fd00::2", json!({"ready": true, "serving": false})),
            endpoint("c", "10.0.0.3", json!({})),
            {"addresses": ["10.0.0.4"]},
        ]});
        let shown: Vec<String> = pods(&slice)
            .iter()
            .map(|(uid, listed)| format!("{uid} {} {}", listed.address, listed.is_serving))
            .collect();
        assert_eq!(
            shown,
            ["a 10.0.0.1:8445 true", "b [fd00::2]:8445 false", "c 10.0.0.3:8445 true"]
        );
        assert!(pods(&json!({})).is_empty());
    }
}
