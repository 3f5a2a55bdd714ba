//! Pods as an API server stores and sends them: with all that nobody here asks for. One container with probes, resources and a mounted
//! token, conditions, statuses, and four managers' fields; ordinary, and smaller than with a mesh's sidecar.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json, to_value};

/// The object of a running pod, of which the given one is what matters.
pub fn stored(pod: &Pod, version: usize) -> Value {
    let mut object = to_value(pod).unwrap();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let app = object["metadata"]["labels"]["app"].as_str().unwrap().to_owned();
    let node = object["spec"]["nodeName"].clone();
    let ip = object["status"]["podIPs"][0]["ip"].clone();
    let ports = object["spec"]["containers"][0]["ports"].clone();
    let time = "2026-11-21T10:11:12Z";
    merge(
        &mut object["metadata"],
        json!({
            "generateName": format!("{app}-7d4b9c6f5-"), "resourceVersion": version.to_string(), "generation": 1, "creationTimestamp": time,
            "annotations": {"kubectl.kubernetes.io/restartedAt": time, "checksum/config": "5f1d6e1c0a5c6f0e4a1b9f0c3ad2ee47c4d9b0cbd2c5a2b8d7e6f0a19b3c4d5e"},
            "managedFields": managers(time),
        }),
    );
    merge(
        &mut object["spec"],
        json!({
            "volumes": [
                {"name": "config", "configMap": {"name": format!("{app}-config"), "defaultMode": 420}},
                {"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
                ]}},
            ],
            "containers": [{
                "name": "main", "image": format!("registry.example/shop/{app}:1.27.3"), "imagePullPolicy": "IfNotPresent", "ports": ports,
                "env": [
                    {"name": "LOG_LEVEL", "value": "info"}, {"name": "DATABASE_HOST", "value": "postgres.data.svc.cluster.local"},
                    {"name": "DATABASE_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}},
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
                ],
                "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/app", "readOnly": true},
                    {"name": "kube-api-access-x7k2p", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
                ],
                "livenessProbe": probe("/healthz"), "readinessProbe": probe("/readyz"),
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true, "runAsNonRoot": true},
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "serviceAccountName": app, "serviceAccount": app,
            "securityContext": {"fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}, "schedulerName": "default-scheduler",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
            "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority", "nodeName": node,
        }),
    );
    let conditions = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    let condition = |kind: &str| json!({"type": kind, "status": "True", "observedGeneration": 1, "lastProbeTime": null, "lastTransitionTime": time});
    merge(
        &mut object["status"],
        json!({
            "observedGeneration": 1, "conditions": conditions.map(condition), "hostIP": "192.168.17.4", "hostIPs": [{"ip": "192.168.17.4"}],
            "podIP": ip, "startTime": time, "qosClass": "Burstable",
            "containerStatuses": [{
                "name": "main", "state": {"running": {"startedAt": time}}, "lastState": {}, "ready": true, "restartCount": 0, "started": true,
                "image": format!("registry.example/shop/{app}:1.27.3"),
                "imageID": format!("registry.example/shop/{app}@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
                "containerID": format!("containerd://2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266{:04}", name.len()),
                "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/app", "readOnly": true, "recursiveReadOnly": "Disabled"},
                    {"name": "kube-api-access-x7k2p", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true, "recursiveReadOnly": "Disabled"},
                ],
            }],
        }),
    );
    object
}

fn probe(path: &str) -> Value {
    json!({"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
}

/// Who set which field: the controller that made the pod, and the kubelet for its status.
fn managers(time: &str) -> Value {
    let probe = json!({".": {}, "f:failureThreshold": {}, "f:httpGet": {".": {}, "f:path": {}, "f:port": {}, "f:scheme": {}}, "f:periodSeconds": {}, "f:successThreshold": {}, "f:timeoutSeconds": {}});
    let condition = json!({".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:observedGeneration": {}, "f:status": {}, "f:type": {}});
    json!([
        {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1", "fieldsV1": {
            "f:metadata": {
                "f:annotations": {".": {}, "f:checksum/config": {}, "f:kubectl.kubernetes.io/restartedAt": {}}, "f:generateName": {},
                "f:labels": {".": {}, "f:app": {}, "f:pod-template-hash": {}, "f:role": {}},
                "f:ownerReferences": {".": {}, "k:{\"uid\":\"c1f3a5b7-0d2e-4f60-8a9b-1c2d3e4f5a6b\"}": {}},
            },
            "f:spec": {
                "f:containers": {"k:{\"name\":\"main\"}": {
                    ".": {}, "f:env": {".": {}, "k:{\"name\":\"DATABASE_HOST\"}": {".": {}, "f:name": {}, "f:value": {}}, "k:{\"name\":\"DATABASE_PASSWORD\"}": {".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:secretKeyRef": {}}}, "k:{\"name\":\"LOG_LEVEL\"}": {".": {}, "f:name": {}, "f:value": {}}, "k:{\"name\":\"POD_IP\"}": {".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:fieldRef": {}}}},
                    "f:image": {}, "f:imagePullPolicy": {}, "f:livenessProbe": probe, "f:name": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":8000,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}, "f:protocol": {}}},
                    "f:readinessProbe": probe, "f:resources": {".": {}, "f:limits": {".": {}, "f:memory": {}}, "f:requests": {".": {}, "f:cpu": {}, "f:memory": {}}},
                    "f:securityContext": {".": {}, "f:allowPrivilegeEscalation": {}, "f:capabilities": {".": {}, "f:drop": {}}, "f:readOnlyRootFilesystem": {}, "f:runAsNonRoot": {}},
                    "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}, "f:volumeMounts": {".": {}, "k:{\"mountPath\":\"/etc/app\"}": {".": {}, "f:mountPath": {}, "f:name": {}, "f:readOnly": {}}},
                }},
                "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {".": {}, "f:fsGroup": {}, "f:seccompProfile": {".": {}, "f:type": {}}}, "f:serviceAccount": {}, "f:serviceAccountName": {}, "f:terminationGracePeriodSeconds": {},
                "f:volumes": {".": {}, "k:{\"name\":\"config\"}": {".": {}, "f:configMap": {".": {}, "f:defaultMode": {}, "f:name": {}}, "f:name": {}}},
            },
        }},
        {"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1", "subresource": "status", "fieldsV1": {"f:status": {
            "f:conditions": {".": {}, "k:{\"type\":\"ContainersReady\"}": condition, "k:{\"type\":\"Initialized\"}": condition, "k:{\"type\":\"PodReadyToStartContainers\"}": condition, "k:{\"type\":\"PodScheduled\"}": {"f:observedGeneration": {}}, "k:{\"type\":\"Ready\"}": condition},
            "f:containerStatuses": {}, "f:hostIP": {}, "f:hostIPs": {}, "f:observedGeneration": {}, "f:phase": {}, "f:podIP": {}, "f:podIPs": {".": {}, "k:{\"ip\":\"10.0.0.1\"}": {".": {}, "f:ip": {}}}, "f:startTime": {},
        }}},
    ])
}

fn merge(into: &mut Value, more: Value) {
    let (Value::Object(into), Value::Object(more)) = (into, more) else {
        panic!("both are objects");
    };
    into.extend(more);
}
