"""What a cluster has on this machine: processes, mounts, control groups, a network namespace.

Everything that is started carries the cluster's folder in its environment (MARK). That is how it is
found again, whatever became of the one who started it; nothing without the mark is ever touched.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time

MARK = "TIDEGATE_CLUSTER"

# Programs, and Debian's packages that have them.
PROGRAMS = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "openssl": "openssl",
    "nsenter": "util-linux",
}
CNI = pathlib.Path("/usr/lib/cni")


class Impossible(Exception):
    """This machine cannot run a cluster; the text says why and what to do."""


def check():
    """Says what this machine lacks."""
    if os.geteuid() != 0:
        raise Impossible("a cluster needs root: for network namespaces, mounts and containers")
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    if not (CNI / "bridge").exists():
        missing.add("containernetworking-plugins")
    if not os.environ.get("KUBERNETES_PROGRAMS") and not shutil.which("go"):
        missing.add("golang-go")
    if missing:
        raise Impossible("install Debian's " + " ".join(sorted(missing)))
    probe = f"tidegate-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        raise Impossible(f"this machine makes no network namespaces: {made.stderr.strip()}")
    subprocess.run(["ip", "netns", "del", probe], check=True)


class Folder:
    """A cluster's folder: its state, and what it has running."""

    def __init__(self, path):
        self.path = pathlib.Path(path).resolve()
        # Sockets lie below; their names must fit into 108 bytes.
        if len(str(self.path)) > 60:
            raise Impossible(f"{self.path} is too long a name; choose a folder of at most 60 bytes")

    def __str__(self):
        return str(self.path)

    def __truediv__(self, name):
        return self.path / name

    @property
    def netns(self):
        """The network namespace, one for each folder."""
        return "tidegate-" + hashlib.sha256(str(self.path).encode()).hexdigest()[:8]

    def state(self):
        try:
            return json.loads((self / "state.json").read_text())
        except FileNotFoundError:
            raise SystemExit(f"there is no cluster in {self.path}: `up` starts one") from None

    def change(self, change):
        """Changes the state; several programs may start at once."""
        with open(self / "state.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self / "state.json"
            state = json.loads(path.read_text()) if path.exists() else {"programs": {}}
            change(state)
            (self / "state.new").write_text(json.dumps(state, indent=1))
            (self / "state.new").rename(path)

    def run(self, name, command):
        """Starts a program of the cluster, log in log/NAME."""
        log = open(self / "log" / name, "ab")
        child = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=self.path, env=self.environment(), start_new_session=True)
        entry = {"command": [str(word) for word in command], "pid": child.pid, "born": born(child.pid)}
        self.change(lambda state: state["programs"].update({name: entry}))
        return child

    def environment(self):
        keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        path = f"{self.state()['tools']}:{keep.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
        return keep | {"PATH": path, MARK: str(self.path), "TMPDIR": str(self / "tmp")}

    def processes(self):
        """Everything that the cluster runs: what carries its mark, and the containers below."""
        mark = f"{MARK}={self.path}".encode()
        parents, marked = {}, set()
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text()
                environment = pathlib.Path("/proc", entry, "environ").read_bytes()
            except OSError:
                continue
            fields = stat.rpartition(")")[2].split()
            if fields[0] == "Z":
                continue
            parents[int(entry)] = int(fields[1])
            if mark in environment.split(b"\0"):
                marked.add(int(entry))
        mine = {os.getpid(), os.getppid()}
        found = set()
        for pid in parents:
            line = []
            while pid in parents:
                line.append(pid)
                if pid in marked:
                    found.update(line)
                pid = parents[pid]
        return found - mine


def born(pid):
    """When a process started, in ticks since boot; None if there is none."""
    try:
        stat = pathlib.Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if stat[0] == "Z" else stat[19]


def end(entry, how=signal.SIGKILL, seconds=60):
    """Ends a program if it is still the one that was started, and waits for its end."""
    try:
        handle = os.pidfd_open(entry["pid"])
    except ProcessLookupError:
        return
    try:
        if born(entry["pid"]) != entry["born"]:
            return
        signal.pidfd_send_signal(handle, how)
        gone, _, _ = select.select([handle], [], [], seconds)
        if not gone:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [])
    finally:
        os.close(handle)


def enter(netns):
    """This thread, and what it starts, is in that network from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{netns}") as file:
        if libc.setns(file.fileno(), 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), f"setns {netns}")


def kill_all(folder):
    """Kills every process of the cluster: first those that start others."""
    deadline = time.monotonic() + 20
    while processes := folder.processes():
        for pid in sorted(processes):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > deadline:
            raise SystemExit(f"processes do not end: {sorted(processes)}")
        time.sleep(0.02)


def unmount_all(folder):
    below = str(folder.path) + "/"
    mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(below)), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)


def remove_cgroups(folder):
    """Groups of containers that were killed; containerd has all of them below k8s.io."""
    containers = folder.path.glob("run-*/io.containerd.runtime.v2.task/k8s.io/*")
    root = pathlib.Path("/sys/fs/cgroup")
    groups = [group for container in containers
              for pattern in ("k8s.io/", "*/k8s.io/") for group in root.glob(pattern + container.name)]
    deadline = time.monotonic() + 5
    while groups := [group for group in groups if group.exists()]:
        for group in groups:
            try:
                group.rmdir()
            except OSError:
                pass
        # The kernel lets go of a group a moment after its last process.
        if time.monotonic() > deadline:
            print(f"control groups stay, something runs in them: {groups}", file=sys.stderr)
            break
        time.sleep(0.01)


def remove_sockets(folder):
    """Sockets of containers' shims, which lie outside of the folder."""
    for file in folder.path.glob("run-*/io.containerd.runtime.v2.task/k8s.io/*/address"):
        address = file.read_text()
        if address.startswith("unix:///run/containerd/s/"):
            pathlib.Path(address.removeprefix("unix://")).unlink(missing_ok=True)
