"""What a container's process finds in its environment and on its paths, from the pod's spec."""

from __future__ import annotations

import base64
import math
import os
import re
import shlex
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from .api import CORE, KubeApi, Object, Refused
from .services import hosts_file

INHERITED = ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
"""What a container has from this machine where another would have it from its image."""

GPU = "nvidia.com/gpu"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - it is replaced, not bound
_UNITS = {"": 1.0, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}


class Missing(Exception):
    """A Secret or ConfigMap, or a key of it, that a container asks for."""


def image_directory(image: str) -> str:
    """Below `images` in the nodes' state: programs that containers of this image have first on
    their path."""
    return re.sub(r"[^\w.-]", "_", image)


def quantity(text: str) -> float:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/"""
    match = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    return float(match[1]) * _UNITS[match[2]]


def expand(text: str, environ: dict[str, str]) -> str:
    """`$(NAME)` as the kubelet fills it in; `$$(NAME)` stays `$(NAME)`."""

    def value(match: re.Match[str]) -> str:
        return f"$({match[2]})" if match[1] else environ.get(match[2], match[0])

    return re.sub(r"\$(\$?)\(([A-Za-z_][\w.-]*)\)", value, text)


@dataclass
class Surroundings:
    """Of one pod: `ip` is its address, `gpus` the devices that it was given."""

    api: KubeApi
    pod: Object
    state: Path
    directory: Path
    ip: str
    gpus: list[int] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    def data(self, kind: str, name: str, optional: bool = False) -> dict[str, bytes]:
        """A Secret's or ConfigMap's data; `kind` is `secrets` or `configmaps`."""
        try:
            found = self.api.get(f"{CORE}/namespaces/{self.namespace}/{kind}/{name}")
        except Refused as refused:
            if refused.code != httpx.codes.NOT_FOUND:
                raise
            if optional:
                return {}
            raise Missing(f'{kind.removesuffix("s")} "{name}" not found') from None
        data = found.get("data") or {}
        if kind == "secrets":
            return {key: base64.b64decode(value) for key, value in data.items()}
        binary = found.get("binaryData") or {}
        return {key: value.encode() for key, value in data.items()} | {
            key: base64.b64decode(value) for key, value in binary.items()
        }

    def here(self, text: str) -> str:
        """Two pods can listen on one port: every address of a pod is its own."""
        return text.replace(EVERY_ADDRESS, self.ip)

    def environ(self, container: Object) -> dict[str, str]:
        server = urlsplit(self.api.server)
        spec = self.pod["spec"]
        found = {name: os.environ[name] for name in INHERITED if name in os.environ}
        found |= {
            "HOME": str(self.directory),
            "HOSTNAME": spec.get("hostname") or self.pod["metadata"]["name"],
            "KUBERNETES_SERVICE_HOST": server.hostname or "",
            "KUBERNETES_SERVICE_PORT": str(server.port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(server.port),
        }
        programs = self.state / "images" / image_directory(container["image"])
        if programs.is_dir():
            found["PATH"] = f"{programs}{os.pathsep}{found.get('PATH', os.defpath)}"
        if self.gpus:
            devices = ",".join(map(str, self.gpus))
            found |= {"NVIDIA_VISIBLE_DEVICES": devices, "CUDA_VISIBLE_DEVICES": devices}
        for source in container.get("envFrom", []):
            kind, ref = _reference(source, "Ref")
            data = self.data(kind, ref["name"], ref.get("optional", False))
            prefix = source.get("prefix", "")
            found |= {prefix + key: value.decode() for key, value in data.items()}
        for variable in container.get("env", []):
            value = self._value(container, variable, found)
            if value is not None:
                found[variable["name"]] = self.here(value)
        return found

    def _value(self, container: Object, variable: Object, sofar: dict[str, str]) -> str | None:
        source = variable.get("valueFrom")
        if not source:
            return expand(variable.get("value", ""), sofar)
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in source:
            return _resource(container, source["resourceFieldRef"])
        kind, ref = _reference(source, "KeyRef")
        data = self.data(kind, ref["name"], ref.get("optional", False))
        if ref["key"] in data:
            return data[ref["key"]].decode()
        if ref.get("optional"):
            return None
        raise Missing(f"couldn't find key {ref['key']} in {ref['name']}")

    def _field(self, path: str) -> str:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        match = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        if match:
            return str(metadata.get(match[1], {}).get(match[2], ""))
        return str(
            {
                "status.podIP": self.ip,
                "status.podIPs": self.ip,
                "status.hostIP": "127.0.0.1",
                "spec.nodeName": spec["nodeName"],
                "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
                "metadata.name": metadata["name"],
                "metadata.namespace": metadata["namespace"],
                "metadata.uid": metadata["uid"],
            }[path]
        )

    def volume(self, volume: Object) -> Path:
        """The directory behind a volume, filled. What is not imitated is an empty directory: of
        the claim, or of the pod."""
        if "hostPath" in volume:
            path = Path(volume["hostPath"]["path"])
        elif "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            path = self.state / "volumes" / self.namespace / claim
        else:
            path = self.directory / "volumes" / volume["name"]
        path.mkdir(parents=True, exist_ok=True)
        files: dict[str, tuple[bytes, int]] = {}
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            for field_name, kind in (("secret", "secrets"), ("configMap", "configmaps")):
                if field_name in source:
                    files |= self._files(kind, source[field_name])
        if files:
            self._replace(path, files)
        return path

    def refresh(self) -> None:
        """Mounts follow their Secrets and ConfigMaps."""
        for volume in self.pod["spec"].get("volumes", []):
            self.volume(volume)

    def _files(self, kind: str, source: Object) -> dict[str, tuple[bytes, int]]:
        """Path in the volume → content and mode."""
        name = source.get("secretName") or source["name"]
        data = self.data(kind, name, source.get("optional", False))
        found = {}
        for item in source.get("items") or [{"key": key, "path": key} for key in data]:
            if item["key"] not in data:
                raise Missing(f"references non-existent key: {item['key']} in {name}")
            content = data[item["key"]]
            if kind == "configmaps":
                content = content.replace(EVERY_ADDRESS.encode(), self.ip.encode())
            found[item["path"]] = (content, item.get("mode", source.get("defaultMode", 0o644)))
        return found

    def _replace(self, path: Path, files: dict[str, tuple[bytes, int]]) -> None:
        """As the kubelet writes them: all in a new directory, which takes the former one's place by
        one rename of the link `..data`; what containers see are links through it."""
        current = path / "..data"
        if current.is_symlink() and {
            str(file.relative_to(current)): file.read_bytes()
            for file in current.rglob("*")
            if file.is_file()
        } == {name: content for name, (content, _) in files.items()}:
            return
        former = current.resolve() if current.is_symlink() else None
        fresh = path / f"..{time.time_ns()}"
        for name, (content, mode) in files.items():
            file = fresh / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(mode)
        link = path / "..data_tmp"
        link.symlink_to(fresh.name)
        link.rename(current)
        for first in {Path(name).parts[0] for name in files}:
            if not (path / first).is_symlink():
                (path / first).symlink_to(Path("..data") / first)
        if former is not None:
            shutil.rmtree(former)

    def command(self, container: Object, argv: list[str]) -> list[str]:
        """`argv` behind the container's mounts, in a mount namespace of its own (root only), where
        Services have names."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", [])}
        mounts = sorted(container.get("volumeMounts", []), key=lambda mount: mount["mountPath"])
        # What runs here may lie below this machine's own.
        mounts = [mount for mount in mounts if mount["mountPath"] != "/tmp"]  # noqa: S108
        if os.geteuid() != 0:
            return argv
        lines = [
            "set -e",
            shlex.join(["mount", "--bind", str(hosts_file(self.state)), "/etc/hosts"]),
        ]
        for mount in mounts:
            source = self.volume(volumes[mount["name"]]) / mount.get("subPath", "")
            if not source.exists():
                source.mkdir(parents=True)
            target = Path(mount["mountPath"])
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            else:
                target.mkdir(parents=True, exist_ok=True)
            words = ["mount", "--bind", str(source), str(target)]
            lines.append(shlex.join(words))
            if mount.get("readOnly"):
                lines.append(shlex.join(["mount", "-o", "remount,ro,bind", str(target)]))
        script = "\n".join([*lines, 'exec "$@"'])
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *argv]


def _reference(source: Object, ending: str) -> tuple[str, dict[str, Any]]:
    if f"secret{ending}" in source:
        return "secrets", source[f"secret{ending}"]
    return "configmaps", source[f"configMap{ending}"]


def _resource(container: Object, ref: Object) -> str:
    kind, resource = ref["resource"].split(".", 1)
    amount = quantity(container.get("resources", {}).get(kind, {}).get(resource, "0"))
    return str(math.ceil(amount / (quantity(ref.get("divisor") or "1") or 1)))
