//! The CRDs of `deploy/kubernetes/crds` are made from the fields that admission knows, so that the
//! API server keeps exactly what tidegate reads. Which of them Knative's CRDs have, which objects
//! those leave open, what is required and how lists merge: config/core/300-resources of Knative
//! Serving. A field that is not listed there is pruned there, and here.
//!
//! `UPDATE_EXPECT=1 cargo test --lib crds` writes the files anew.

use expect_test::expect_file;
use serde_json::{Map, Value as Json, json};

use super::mask::{VOLUME_FEATURES, container_field};
use super::schema::{self, Field, Type};

/// A kind and how `kubectl` names and prints it.
struct Crd {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    /// Its name in the schema.
    object: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    labels: &'static [&'static str],
    /// Name, type and path of the columns before Ready and Reason.
    columns: &'static [(&'static str, &'static str, &'static str)],
    /// The same of those after them.
    more_columns: &'static [(&'static str, &'static str, &'static str)],
    description: &'static str,
}

const SERVING: &[&str] = &["all", "knative", "serving"];
const INTERNAL: &[&str] = &["knative-internal", "autoscaling"];
const LATEST_CREATED: (&str, &str, &str) =
    ("LatestCreated", "string", ".status.latestCreatedRevisionName");
const LATEST_READY: (&str, &str, &str) =
    ("LatestReady", "string", ".status.latestReadyRevisionName");
const URL: (&str, &str, &str) = ("URL", "string", ".status.url");

const CRDS: [Crd; 8] = [
    Crd {
        group: "serving.knative.dev",
        version: "v1",
        kind: "Service",
        object: "Service",
        short_names: &["kservice", "ksvc"],
        categories: SERVING,
        labels: &["duck.knative.dev/addressable", "duck.knative.dev/podspecable"],
        columns: &[URL, LATEST_CREATED, LATEST_READY],
        more_columns: &[],
        description: "A program with a URL: each change of its template makes a revision, and its \
                      traffic is split over revisions.",
    },
    Crd {
        group: "serving.knative.dev",
        version: "v1",
        kind: "Configuration",
        object: "Configuration",
        short_names: &["config", "cfg"],
        categories: SERVING,
        labels: &["duck.knative.dev/podspecable"],
        columns: &[LATEST_CREATED, LATEST_READY],
        more_columns: &[],
        description: "The template that revisions are made from.",
    },
    Crd {
        group: "serving.knative.dev",
        version: "v1",
        kind: "Revision",
        object: "Revision",
        short_names: &["rev"],
        categories: SERVING,
        labels: &[],
        columns: &[
            ("Config Name", "string", r".metadata.labels['serving\.knative\.dev/configuration']"),
            (
                "Generation",
                "string",
                r".metadata.labels['serving\.knative\.dev/configurationGeneration']",
            ),
        ],
        more_columns: &[
            ("Actual Replicas", "integer", ".status.actualReplicas"),
            ("Desired Replicas", "integer", ".status.desiredReplicas"),
        ],
        description: "One version of a program; it never changes, and has as many replicas as its \
                      load needs, none without load.",
    },
    Crd {
        group: "serving.knative.dev",
        version: "v1",
        kind: "Route",
        object: "Route",
        short_names: &["rt"],
        categories: SERVING,
        labels: &["duck.knative.dev/addressable"],
        columns: &[URL],
        more_columns: &[],
        description: "A URL, and how its traffic is split over revisions.",
    },
    Crd {
        group: "serving.knative.dev",
        version: "v1beta1",
        kind: "DomainMapping",
        object: "DomainMapping",
        short_names: &["dm"],
        categories: SERVING,
        labels: &[],
        columns: &[URL],
        more_columns: &[],
        description: "Another host name for a service; the object's name is the host.",
    },
    Crd {
        group: "autoscaling.internal.knative.dev",
        version: "v1alpha1",
        kind: "PodAutoscaler",
        object: "InternalPodAutoscaler",
        short_names: &["kpa", "pa"],
        categories: INTERNAL,
        labels: &[],
        columns: &[
            ("DesiredScale", "integer", ".status.desiredScale"),
            ("ActualScale", "integer", ".status.actualScale"),
        ],
        more_columns: &[],
        description: "The scaling of one revision, made by the controller; its settings are \
                      annotations.",
    },
    Crd {
        group: "autoscaling.knative.dev",
        version: "v1alpha1",
        kind: "PodAutoscaler",
        object: "PodAutoscaler",
        short_names: &[],
        categories: &["knative", "autoscaling"],
        labels: &[],
        columns: &[
            ("Target", "string", ".spec.scaleTargetRef.name"),
            ("Min", "integer", ".spec.minScale"),
            ("Max", "integer", ".spec.maxScale"),
        ],
        more_columns: &[],
        description: "Scaling settings for the revisions of a service, present and future; they \
                      win over the template's annotations.",
    },
    Crd {
        group: "logging.knative.dev",
        version: "v1alpha1",
        kind: "LoggingConfig",
        object: "LoggingConfig",
        short_names: &[],
        categories: &["knative"],
        labels: &[],
        columns: &[],
        more_columns: &[],
        description: "Log levels, and where log lines are sent.",
    },
];

/// Pod fields that a manifest may have, with or without a feature.
const POD: &[&str] = &[
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "imagePullSecrets",
    "initContainers",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "serviceAccountName",
    "shareProcessNamespace",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "containerConcurrency",
    "timeoutSeconds",
    "responseStartTimeoutSeconds",
    "idleTimeoutSeconds",
];

/// Which fields of an object are in the CRD; of those not named here, all.
fn kept(object: &str, field: &str) -> bool {
    let of = |list: &[&str]| list.contains(&field);
    match object {
        "RevisionSpec" => of(POD),
        "Container" => container_field(field),
        "Volume" => {
            of(&["name", "configMap", "secret", "projected"])
                || VOLUME_FEATURES.iter().any(|(source, _)| *source == field)
        }
        "VolumeProjection" => of(&["configMap", "downwardAPI", "secret", "serviceAccountToken"]),
        "ContainerPort" => of(&["containerPort", "name", "protocol"]),
        "Probe" => field != "terminationGracePeriodSeconds",
        "EnvVarSource" => field != "fileKeyRef",
        "VolumeMount" => of(&["mountPath", "mountPropagation", "name", "readOnly", "subPath"]),
        "ResourceRequirements" => field != "claims",
        "SecurityContext" => of(&[
            "allowPrivilegeEscalation",
            "capabilities",
            "privileged",
            "readOnlyRootFilesystem",
            "runAsGroup",
            "runAsNonRoot",
            "runAsUser",
            "seccompProfile",
        ]),
        "ObjectReference" => of(&["apiVersion", "kind", "name"]),
        "ObjectMeta" => of(&["annotations", "finalizers", "labels", "name", "namespace"]),
        _ => true,
    }
}

/// Objects of which the API server keeps whatever they have.
fn open(object: &str, field: &str, inner: &str) -> bool {
    matches!(
        inner,
        "Affinity"
            | "PodDNSConfig"
            | "HostAlias"
            | "PodSecurityContext"
            | "Toleration"
            | "TopologySpreadConstraint"
            | "CSIVolumeSource"
            | "EmptyDirVolumeSource"
            | "EphemeralVolumeSource"
            | "HostPathVolumeSource"
            | "ImageVolumeSource"
            | "PersistentVolumeClaimVolumeSource"
    ) || field == "initContainers"
        || (object == "EnvVarSource" && field.ends_with("ieldRef"))
}

fn required(object: &str) -> &'static [&'static str] {
    match object {
        "RevisionSpec" => &["containers"],
        "EnvVar" | "Volume" => &["name"],
        "ConfigMapKeySelector" | "SecretKeySelector" => &["key"],
        "HTTPHeader" => &["name", "value"],
        "VolumeMount" => &["mountPath", "name"],
        "KeyToPath" => &["key", "path"],
        "SeccompProfile" => &["type"],
        "DownwardAPIVolumeFile" | "ServiceAccountTokenProjection" => &["path"],
        "ObjectFieldSelector" => &["fieldPath"],
        "ResourceFieldSelector" => &["resource"],
        "Condition" => &["status", "type"],
        "DomainMappingSpec" => &["ref"],
        "KReference" => &["kind", "name"],
        "SecretTLS" => &["secretName"],
        "InternalPodAutoscalerSpec" => &["protocolType", "scaleTargetRef"],
        "PodAutoscalerSpec" => &["scaleTargetRef"],
        _ => &[],
    }
}

/// What a field has besides its type: how a list or map merges, and its default.
fn extras(object: &str, field: &str) -> &'static [(&'static str, &'static str)] {
    const ATOMIC: &[(&str, &str)] = &[("x-kubernetes-list-type", "\"atomic\"")];
    const WHOLE: &[(&str, &str)] = &[("x-kubernetes-map-type", "\"atomic\"")];
    const BY_NAME: &[(&str, &str)] =
        &[("x-kubernetes-list-map-keys", "[\"name\"]"), ("x-kubernetes-list-type", "\"map\"")];
    const BY_PATH: &[(&str, &str)] =
        &[("x-kubernetes-list-map-keys", "[\"mountPath\"]"), ("x-kubernetes-list-type", "\"map\"")];
    match (object, field) {
        ("Container", "env") | ("RevisionSpec", "imagePullSecrets" | "volumes") => BY_NAME,
        ("Container", "volumeMounts") => BY_PATH,
        ("Container", "args" | "command" | "envFrom")
        | ("ExecAction", "command")
        | ("HTTPGetAction", "httpHeaders")
        | ("Capabilities", "add" | "drop")
        | ("ProjectedVolumeSource", "sources")
        | (_, "items") => ATOMIC,
        ("RevisionSpec", "nodeSelector")
        | ("EnvVarSource" | "DownwardAPIVolumeFile", _)
        | ("EnvFromSource", "configMapRef" | "secretRef")
        | ("Volume" | "VolumeProjection", "configMap")
        | ("VolumeProjection", "secret")
        | ("InternalPodAutoscalerSpec" | "PodAutoscalerSpec", "scaleTargetRef") => {
            if matches!(field, "mode" | "path") { &[] } else { WHOLE }
        }
        ("ContainerPort", "protocol") => &[("default", "\"TCP\"")],
        ("GRPCAction", "service") => &[("default", "\"\"")],
        (
            "ConfigMapKeySelector"
            | "SecretKeySelector"
            | "ConfigMapEnvSource"
            | "SecretEnvSource"
            | "LocalObjectReference"
            | "ConfigMapVolumeSource"
            | "ConfigMapProjection"
            | "SecretProjection",
            "name",
        ) => &[("default", "\"\"")],
        _ => &[],
    }
}

fn schema_of(object: &str, field: &Field, ty: &Type) -> Json {
    let quantity = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
    match ty {
        Type::Text | Type::Time | Type::Url | Type::Bytes => json!({"type": "string"}),
        Type::Bool => json!({"type": "boolean"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Number => json!({"type": "number"}),
        Type::IntOrString => json!({"x-kubernetes-int-or-string": true}),
        Type::Quantity => json!({"x-kubernetes-int-or-string": true, "pattern": quantity}),
        Type::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
        Type::Optional(inner) => schema_of(object, field, inner),
        Type::List(inner) => json!({"type": "array", "items": schema_of(object, field, inner)}),
        Type::Map(inner) => {
            json!({"type": "object", "additionalProperties": schema_of(object, field, inner)})
        }
        Type::Object(inner) if open(object, &field.name, inner) => {
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
        }
        Type::Object(inner) => object_schema(inner),
    }
}

fn object_schema(name: &str) -> Json {
    let mut properties = Map::new();
    for field in schema::object(name).fields.iter().filter(|field| kept(name, &field.name)) {
        let mut made = match (name, field.name.as_str()) {
            // Checked by the API server itself.
            _ if CRDS.iter().any(|crd| crd.object == name) && field.name == "metadata" => {
                json!({"type": "object"})
            }
            _ => schema_of(name, field, &field.ty),
        };
        // Imposed on the list as a whole, or on the object named.
        for (key, value) in extras(name, &field.name) {
            made[key] = serde_json::from_str(value).unwrap();
        }
        properties.insert(field.name.clone(), made);
    }
    let mut made = json!({"type": "object"});
    if !required(name).is_empty() {
        made["required"] = json!(required(name));
    }
    if name == "ObjectMeta" {
        made["x-kubernetes-preserve-unknown-fields"] = json!(true);
    }
    made["properties"] = Json::Object(properties);
    // Named as a whole wherever it stands in a list.
    if name == "LocalObjectReference" {
        made["x-kubernetes-map-type"] = json!("atomic");
    }
    made
}

impl Crd {
    fn plural(&self) -> String {
        self.kind.to_lowercase() + "s"
    }

    fn file(&self) -> String {
        let group = self.group.split('.').next().unwrap();
        let internal = if self.object.starts_with("Internal") { "-internal" } else { "" };
        format!("{group}{internal}-{}.yaml", self.plural())
    }

    fn columns(&self) -> Vec<Json> {
        let of_ready = |field| format!(".status.conditions[?(@.type=='Ready')].{field}");
        let column = |(name, ty, path): &(&str, &str, &str)| json!({"name": name, "type": ty, "jsonPath": path});
        let ready = [("Ready", of_ready("status")), ("Reason", of_ready("reason"))]
            .map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path}));
        let columns = self.columns.iter().map(column).chain(ready);
        columns.chain(self.more_columns.iter().map(column)).collect()
    }

    fn object(&self) -> Json {
        let plural = self.plural();
        let mut labels = json!({"app.kubernetes.io/name": "tidegate"});
        for label in self.labels {
            labels[label] = json!("true");
        }
        let mut names =
            json!({"kind": self.kind, "plural": plural, "singular": self.kind.to_lowercase()});
        names["categories"] = json!(self.categories);
        if !self.short_names.is_empty() {
            names["shortNames"] = json!(self.short_names);
        }
        let mut schema = json!({"description": self.description});
        schema.as_object_mut().unwrap().append(object_schema(self.object).as_object_mut().unwrap());
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{}", self.group), "labels": labels},
            "spec": {
                "group": self.group,
                "names": names,
                "scope": "Namespaced",
                "versions": [{
                    "name": self.version,
                    "served": true,
                    "storage": true,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": self.columns(),
                    "schema": {"openAPIV3Schema": schema},
                }],
            },
        })
    }
}

/// Writes a value as YAML, in the style of the other manifests.
fn write(value: &Json, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                *out += &format!("{margin}{}:", scalar(&json!(key)));
                nested(value, indent, out);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for item in items {
                let mut text = String::new();
                write(item, indent + 2, &mut text);
                *out += &format!("{margin}- {}", text.trim_start());
            }
        }
        _ => *out += &format!("{margin}{}\n", scalar(value)),
    }
}

fn nested(value: &Json, indent: usize, out: &mut String) {
    let empty = match value {
        Json::Object(map) => map.is_empty(),
        Json::Array(items) => items.is_empty(),
        _ => true,
    };
    if empty {
        *out += &format!(" {}\n", scalar(value));
    } else {
        out.push('\n');
        write(value, indent + 2, out);
    }
}

/// Text stands bare where it can be nothing else.
fn scalar(value: &Json) -> String {
    match value {
        Json::String(text)
            if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.')
                && !matches!(
                    text.as_str(),
                    "true" | "false" | "null" | "yes" | "no" | "on" | "off"
                )
                && !text.contains(": ")
                && !text.contains(" #") =>
        {
            text.clone()
        }
        _ => value.to_string(),
    }
}

#[test]
fn the_files_are_what_the_schema_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/crds/");
    let mut list = "# Installed before the rest, and not where Knative's own are present.\n\
                    apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
        .to_owned();
    for crd in &CRDS {
        let mut text =
            "# Made from src/config/admission/schema.txt; `UPDATE_EXPECT=1 cargo test --lib crds` \
             writes it anew.\n"
                .to_owned();
        write(&crd.object(), 0, &mut text);
        expect_file![format!("{folder}{}", crd.file())].assert_eq(&text);
        list += &format!("  - {}\n", crd.file());
    }
    list +=
        "  # Written by hand: it is in no namespace.\n  - networking-clusterdomainclaims.yaml\n";
    list += "  # The namespace and the ConfigMaps that Knative has its settings in.\n  - knative-serving.yaml\n";
    expect_file![format!("{folder}kustomization.yaml")].assert_eq(&list);
}
