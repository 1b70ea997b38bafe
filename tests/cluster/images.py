"""Container images from programs alone, and the registry that a cluster's nodes pull them from.

An image is an OCI layout: the programs given, each in the root folder by its file name, and /tmp.
No base image, no container engine. Names are as in a manifest: `echo`, `example/echo:1`,
`registry.example.com/echo@…` all work; what a name leaves out is what Kubernetes puts there.
"""

import hashlib
import http.server
import io
import json
import os
import pathlib
import tarfile
import urllib.parse

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PORT = 5000


def full_name(name):
    """(registry, repository, tag) of an image's name."""
    first, slash, rest = name.partition("/")
    if slash and (any(c in first for c in ".:") or first == "localhost"):
        registry, path = first, rest
    else:
        registry, path = "docker.io", name if slash else "library/" + name
    repository, colon, tag = path.rpartition(":")
    return (registry, repository, tag) if colon else (registry, path, "latest")


def architecture():
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def pack(name, programs, entrypoint, store):
    """Makes an image and puts it into the registry's folder `store`; returns its archive."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(folder)
        for program in programs:
            data = pathlib.Path(program).read_bytes()
            file = tarfile.TarInfo(pathlib.Path(program).name)
            file.mode, file.size = 0o755, len(data)
            archive.addfile(file, io.BytesIO(data))
    layer = layer.getvalue()
    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": kind, "digest": "sha256:" + digest, "size": len(data)}

    layer = blob(layer, "application/vnd.oci.image.layer.v1.tar")
    config = blob(json.dumps({
        "architecture": architecture(), "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": "65532:65532", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = blob(json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
    }).encode(), MANIFEST)

    registry, repository, tag = full_name(name)
    store = pathlib.Path(store)
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    for digest, data in blobs.items():
        (store / "blobs" / digest).write_bytes(data)
    tags = store / "tags" / registry / repository
    tags.mkdir(parents=True, exist_ok=True)
    (tags / tag).write_text(manifest["digest"])

    index = {"schemaVersion": 2, "manifests": [manifest | {"annotations": {
        "io.containerd.image.name": f"{registry}/{repository}:{tag}",
        "org.opencontainers.image.ref.name": tag,
    }}]}
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode()}
    files |= {"blobs/sha256/" + digest: data for digest, data in blobs.items()}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, data in files.items():
            file = tarfile.TarInfo(path)
            file.size = len(data)
            archive.addfile(file, io.BytesIO(data))
    return out.getvalue(), manifest["digest"]


def serve(address, store):
    """The registry, for reading: it stands for every registry that an image's name may give."""
    store = pathlib.Path(store)

    class Registry(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(url.query)
            registry = query.get("ns", [self.headers.get("Host", "")])[0]
            words = url.path.strip("/").split("/")
            if words == ["v2"]:
                return self.answer(b"{}", "application/json")
            repository, what, name = "/".join(words[1:-2]), words[-2], words[-1]
            if what == "manifests" and not name.startswith("sha256:"):
                tag = self.inside(store / "tags" / registry / repository / name)
                if tag is None:
                    return self.nothing("MANIFEST_UNKNOWN", f"{registry}/{repository}:{name}")
                name = tag.read_text()
            data = self.inside(store / "blobs" / name.removeprefix("sha256:"))
            if what not in ("manifests", "blobs") or data is None:
                return self.nothing("BLOB_UNKNOWN", name)
            kind = MANIFEST if what == "manifests" else "application/octet-stream"
            return self.answer(data.read_bytes(), kind, name)

        do_HEAD = do_GET

        def inside(self, path):
            path = path.resolve()
            return path if path.is_relative_to(store.resolve()) and path.is_file() else None

        def nothing(self, code, what):
            body = json.dumps({"errors": [{"code": code, "message": f"{what} is not there"}]})
            self.answer(body.encode(), "application/json", status=404)

        def answer(self, body, kind, digest=None, status=200):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if digest:
                self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    http.server.ThreadingHTTPServer((address, PORT), Registry).serve_forever()
