"""The programs of a cluster: their certificates, their settings, in which order they start."""

import concurrent.futures
import http.client
import json
import pathlib
import ssl
import subprocess
import sys
import time

import images
import machine

# Addresses in the cluster's own network namespace, so they are the same in every cluster.
NODES = "10.77.0"
SERVICES = "10.96.0.0/16"
API = f"{NODES}.1"
KUBERNETES = "10.96.0.1"
DNS = "10.96.0.10"
PODS = "10.78.0.0/16"


def node_name(number):
    return "node-" + "abcdefgh"[number]


def node_address(number):
    return f"{NODES}.{number + 1}"


def pods_of(number):
    """A range for up to 1000 pods."""
    return f"10.78.{4 * number}.0/22"


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def certificates(folder, nodes):
    """An authority, and an identity for each program, as the API server's rules expect them."""
    pki = folder / "pki"
    pki.mkdir()
    names = ["IP:127.0.0.1", f"IP:{API}", f"IP:{KUBERNETES}", "DNS:localhost", "DNS:kubernetes",
             "DNS:kubernetes.default", "DNS:kubernetes.default.svc",
             "DNS:kubernetes.default.svc.cluster.local"]
    (pki / "conf").write_text(
        "[req]\ndistinguished_name = dn\n[dn]\n"
        "[ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n"
        "[server]\nextendedKeyUsage = serverAuth\nsubjectAltName = " + ",".join(names) + "\n"
        "[client]\nextendedKeyUsage = clientAuth\n")

    def issue(name, subject, extensions, *signed_by):
        openssl("req", "-x509", "-config", pki / "conf", "-extensions", extensions, "-days", "30",
                "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", pki / f"{name}.key", "-out", pki / f"{name}.crt", "-subj", subject, *signed_by)

    issue("ca", "/CN=tidegate-cluster", "ca")
    clients = {
        "admin": "/O=system:masters/CN=admin",
        "kube-controller-manager": "/CN=system:kube-controller-manager",
        "kube-scheduler": "/CN=system:kube-scheduler",
        "kube-proxy": "/CN=system:kube-proxy",
    }
    for number in range(nodes):
        clients[node_name(number)] = f"/O=system:nodes/CN=system:node:{node_name(number)}"
    signed_by = ("-CA", pki / "ca.crt", "-CAkey", pki / "ca.key")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = [pool.submit(issue, "server", "/CN=kube-apiserver", "server", *signed_by)]
        jobs += [pool.submit(issue, name, subject, "client", *signed_by)
                 for name, subject in clients.items()]
        # Service accounts' tokens are signed with it.
        jobs.append(pool.submit(openssl, "ecparam", "-name", "prime256v1", "-genkey", "-noout",
                                "-out", pki / "tokens.key"))
        for job in jobs:
            job.result()
    for name in clients:
        kubeconfig(folder, name)


def kubeconfig(folder, name):
    """Names files, so that it stays readable; JSON is YAML."""
    pki = folder / "pki"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": "cluster", "cluster": {
            "server": f"https://{API}:6443", "certificate-authority": str(pki / "ca.crt")}}],
        "users": [{"name": name, "user": {
            "client-certificate": str(pki / f"{name}.crt"), "client-key": str(pki / f"{name}.key")}}],
        "contexts": [{"name": name, "context": {"cluster": "cluster", "user": name}}],
    }
    path = folder / ("kubeconfig" if name == "admin" else f"pki/{name}.kubeconfig")
    path.write_text(json.dumps(config, indent=1))


class Client:
    """The API server, as an administrator."""

    def __init__(self, folder):
        pki = folder / "pki"
        self.context = ssl.create_default_context(cafile=pki / "ca.crt")
        self.context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def call(self, method, path, body=None):
        connection = http.client.HTTPSConnection(API, 6443, context=self.context, timeout=5)
        try:
            body = json.dumps(body) if body is not None else None
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path):
        """An object, or None."""
        try:
            status, body = self.call("GET", path)
        except OSError:
            return None
        return json.loads(body) if status == 200 and body[:1] == b"{" else (status == 200 or None)


def until(what, holds, child=None, seconds=90):
    """Waits until something holds; a program that ends meanwhile has failed."""
    deadline = time.monotonic() + seconds
    while not holds():
        if child is not None and child.poll() is not None:
            raise RuntimeError(f"{what}: the program ended with {child.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)


def network(nodes):
    def ip(*words):
        subprocess.run(["ip", *words], check=True)
    ip("link", "set", "lo", "up")
    ip("link", "add", "nodes", "type", "bridge")
    for number in range(nodes):
        ip("addr", "add", node_address(number) + "/16", "dev", "nodes")
    ip("link", "set", "nodes", "up")
    ip("route", "add", "default", "dev", "nodes")


def containerd(folder, number):
    """A node's container runtime, with networks for its pods."""
    name = f"containerd-{number}"
    cni = folder / f"cni-{number}"
    cni.mkdir()
    (cni / "10-pods.conflist").write_text(json.dumps({
        "cniVersion": "0.4.0", "name": "pods", "plugins": [{
            "type": "bridge", "bridge": f"pods{number}", "isGateway": True, "hairpinMode": True,
            "ipam": {"type": "host-local", "dataDir": str(folder / "ipam"),
                     "ranges": [[{"subnet": pods_of(number)}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }]}))
    mirrors = folder / "registries" / "_default"
    mirrors.mkdir(parents=True, exist_ok=True)
    registry = f"http://{API}:{images.PORT}"
    (mirrors / "hosts.toml").write_text(
        f'server = "{registry}"\n[host."{registry}"]\ncapabilities = ["pull", "resolve"]\n')
    # Lowering oom_score_adj takes a capability that containers and small machines lack.
    (folder / f"{name}.toml").write_text(f"""\
version = 2
root = "{folder / name}"
state = "{folder / f'run-{number}'}"
[grpc]
address = "{folder / name}.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:1"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{machine.CNI}"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{folder / 'registries'}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{folder / f'runc-{number}'}"
""")
    return folder.run(name, ["containerd", "--config", folder / f"{name}.toml"])


def kubelet(folder, number):
    address = node_address(number)
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": address, "healthzBindAddress": address,
        "containerRuntimeEndpoint": f"unix://{folder / f'containerd-{number}.sock'}",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": str(folder / "pki/ca.crt")}},
        "authorization": {"mode": "Webhook"},
        # Old machines and nested ones: version 1 of control groups, none that kubelet may divide.
        "failCgroupV1": False, "cgroupDriver": "cgroupfs", "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [], "failSwapOn": False,
        "localStorageCapacityIsolation": False, "makeIPTablesUtilChains": False,
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%"},
        "resolvConf": "", "clusterDomain": "cluster.local", "clusterDNS": [DNS],
        "podLogsDir": str(folder / f"pod-logs-{number}"),
        "volumePluginDir": str(folder / f"volume-plugins-{number}"),
        "maxPods": 1000, "kubeAPIQPS": 500, "kubeAPIBurst": 1000, "registryPullQPS": 0,
        "eventRecordQPS": 0, "serializeImagePulls": False,
    }
    name = f"kubelet-{number}"
    (folder / f"{name}.json").write_text(json.dumps(settings, indent=1))
    return folder.run(name, [
        "kubelet", f"--config={folder / name}.json",
        f"--kubeconfig={folder / 'pki' / node_name(number)}.kubeconfig",
        f"--hostname-override={node_name(number)}", f"--node-ip={address}",
        f"--root-dir={folder / name}", f"--cert-dir={folder / name}-pki"])


def etcd(folder):
    return folder.run("etcd", [
        "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync",
        "--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
        "--listen-peer-urls", "http://127.0.0.1:2380"])


def api_server(folder):
    pki = folder / "pki"
    # aggregator routing: webhooks given by Service are called at their pods.
    return folder.run("kube-apiserver", [
        "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
        f"--bind-address={API}", f"--advertise-address={API}", f"--cert-dir={pki}",
        f"--tls-cert-file={pki}/server.crt", f"--tls-private-key-file={pki}/server.key",
        f"--client-ca-file={pki}/ca.crt", "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/tokens.key",
        f"--service-account-signing-key-file={pki}/tokens.key",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={SERVICES}", "--allow-privileged=true",
        f"--kubelet-client-certificate={pki}/admin.crt", f"--kubelet-client-key={pki}/admin.key",
        "--kubelet-preferred-address-types=InternalIP", "--enable-aggregator-routing=true"])


def controller_manager(folder):
    pki = folder / "pki"
    return folder.run("kube-controller-manager", [
        "kube-controller-manager", f"--kubeconfig={pki}/kube-controller-manager.kubeconfig",
        "--leader-elect=false", "--bind-address=127.0.0.1", "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki}/tokens.key", f"--root-ca-file={pki}/ca.crt",
        "--kube-api-qps=500", "--kube-api-burst=1000"])


def scheduler(folder):
    (folder / "scheduler.json").write_text(json.dumps({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": str(folder / "pki/kube-scheduler.kubeconfig"),
                             "qps": 500, "burst": 1000}}))
    return folder.run("kube-scheduler", [
        "kube-scheduler", f"--config={folder / 'scheduler.json'}", "--bind-address=127.0.0.1"])


def proxy(folder):
    (folder / "proxy.json").write_text(json.dumps({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables", "bindAddress": API, "hostnameOverride": node_name(0), "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": str(folder / "pki/kube-proxy.kubeconfig")},
        # Settings of the whole machine, which are not ours to change.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}}))
    return folder.run("kube-proxy", ["kube-proxy", f"--config={folder / 'proxy.json'}"])


def dns(folder):
    """Beside the nodes, not in a pod; a Service without selector leads there."""
    (folder / "Corefile").write_text(f"""\
.:53 {{
    bind {API}
    errors
    ready {API}:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {folder}/kubeconfig admin
        pods insecure
        ttl 5
    }}
    cache 5
}}
""")
    return folder.run("coredns", ["coredns", "-conf", folder / "Corefile"])


def dns_service(client):
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    objects = {
        "/api/v1/namespaces/kube-system/services": {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns"},
            "spec": {"clusterIP": DNS, "ports": ports}},
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices": {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "kube-dns-1", "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "ports": ports, "endpoints": [{"addresses": [API], "conditions": {"ready": True}}]},
    }
    for path, thing in objects.items():
        status, body = client.call("POST", path, thing)
        if status not in (201, 409):
            raise RuntimeError(f"{path}: {status} {body.decode()}")


def start(folder, nodes):
    """Starts everything; returns when pods can be made and names resolve."""
    network(nodes)
    folder.run("registry", [sys.executable, pathlib.Path(__file__).parent / "cluster", "registry", folder.path])
    etcd(folder)
    runtimes = [containerd(folder, number) for number in range(nodes)]
    certificates(folder, nodes)
    server = api_server(folder)
    for number, runtime in enumerate(runtimes):
        until("containerd", (folder / f"containerd-{number}.sock").exists, runtime)
    pause = pathlib.Path(folder.state()["tools"]) / "pause"
    load(folder, "pause:1", [pause], ["/pause"])
    client = Client(folder)
    until("the API server", lambda: client.get("/readyz"), server)
    controller_manager(folder)
    scheduler(folder)
    kubelets = [kubelet(folder, number) for number in range(nodes)]
    proxy(folder)
    names = dns(folder)
    dns_service(client)

    def node_is_ready(number):
        node = client.get(f"/api/v1/nodes/{node_name(number)}") or {}
        conditions = node.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    for number, child in enumerate(kubelets):
        until(node_name(number), lambda: node_is_ready(number), child)
    until("service accounts", lambda: client.get("/api/v1/namespaces/default/serviceaccounts/default"))
    until("DNS", dns_is_ready, names)


def dns_is_ready():
    try:
        connection = http.client.HTTPConnection(API, 8181, timeout=5)
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False


def load(folder, name, programs, entrypoint):
    """Packs an image, and puts it into the registry and onto every node."""
    archive, digest = images.pack(name, programs, entrypoint, folder / "registry")
    for number in range(folder.state()["nodes"]):
        ctr = ["ctr", "--address", folder / f"containerd-{number}.sock", "--namespace", "k8s.io"]
        done = subprocess.run([*ctr, "images", "import", "-"], input=archive, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"import of {name}: {done.stderr.decode()}")
    return digest
