"""The nodes' side of the bed, one process: heart beats, and a kubelet that runs pods as processes.

python -m bed.agent KUBECONFIG STATE PORT CERT KEY NETWORK
"""

from __future__ import annotations

import http.server
import signal
import ssl
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from urllib.parse import parse_qsl, urlsplit

import httpx

from .api import CORE, KubeApi, Object, Refused
from .clock import now
from .nodes import beat, lost_nodes
from .pod import Addresses, Pod
from .services import Services

WATCH_SECONDS = 300


class Kubelet:
    def __init__(self, api: KubeApi, state: Path, network: str) -> None:
        self.api = api
        self.state = state
        self.stop = threading.Event()
        self._ending = threading.Lock()
        self.pods: dict[str, Pod] = {}
        self._addresses = Addresses(network)
        self._silent: set[str] = set()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self._follow()
            # The API server may be away or may have forgotten the version: from the start again.
            except (httpx.HTTPError, Refused) as error:
                print(now(), "watch", repr(error)[:300], file=sys.stderr, flush=True)
                self.stop.wait(1)

    def _follow(self) -> None:
        path, bound = f"{CORE}/pods", {"fieldSelector": "spec.nodeName!="}
        found = self.api.get(path, **bound)
        for pod in found["items"]:
            self._see("ADDED", pod)
        present = {pod["metadata"]["uid"] for pod in found["items"]}
        for uid, known in list(self.pods.items()):
            if uid not in present:
                self._see("DELETED", known.pod)
        version = found["metadata"]["resourceVersion"]
        for event in self.api.watch(path, version, WATCH_SECONDS, **bound):
            if event["type"] == "ERROR":
                return
            self._see(event["type"], event["object"])

    def _see(self, kind: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        known = self.pods.get(uid)
        if pod["spec"]["nodeName"] in lost_nodes(self.state):
            return
        going = kind == "DELETED" or "deletionTimestamp" in pod["metadata"]
        waiting = pod["status"].get("phase") in ("Pending", "Running")
        if known is None and kind != "DELETED" and (going or waiting):
            with self._ending:
                # What the cluster makes in the place of what ends here would outlive it.
                if self.stop.is_set():
                    return
                known = self.pods[uid] = Pod(self.api, pod, self.state, self._addresses)
                if going:
                    known.deleted.set()
                known.thread.start()
        elif known is not None:
            known.see(pod)
            if going:
                known.deleted.set()
        if kind == "DELETED":
            self.pods.pop(uid, None)

    def lose(self) -> None:
        """Kill what runs on lost nodes, without a word to the API server, until `stop`."""
        while not self.stop.wait(0.5):
            lost = lost_nodes(self.state)
            self._silent |= lost
            for pod in list(self.pods.values()):
                if pod.spec["nodeName"] in lost:
                    pod.lost.set()
                    pod.deleted.set()
            for node in self._silent - lost:
                self._come_back(node)

    def _come_back(self, node: str) -> None:
        """As after a reboot: what ran there is over, and what is to go goes."""
        try:
            found = self.api.items(f"{CORE}/pods", fieldSelector=f"spec.nodeName={node}")
        except (httpx.HTTPError, Refused):
            return
        self._silent.discard(node)
        for pod in found:
            before = self.pods.get(pod["metadata"]["uid"])
            if before is None or before.lost.is_set():
                if before is not None:
                    before.thread.join(8)
                    self.pods.pop(before.uid, None)
                self._see("MODIFIED", pod)

    def end(self) -> None:
        """After `stop`."""
        with self._ending:
            pods = list(self.pods.values())
        for pod in pods:
            pod.lost.set()
            pod.deleted.set()
        for pod in pods:
            pod.thread.join(8)

    def find(self, namespace: str, name: str) -> Pod | None:
        found = [
            pod
            for pod in list(self.pods.values())
            if pod.name == name and pod.pod["metadata"]["namespace"] == namespace
        ]
        return found[-1] if found else None


class Logs(http.server.BaseHTTPRequestHandler):
    """GET /containerLogs/NAMESPACE/POD/CONTAINER?follow=true&tailLines=N, as the API server calls
    it."""

    kubelet: Kubelet

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        parts = url.path.strip("/").split("/")
        pod = self.kubelet.find(parts[1], parts[2]) if len(parts) == 4 else None
        log = pod.log(parts[3]) if pod is not None else None
        if pod is None or log is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        with log.open("rb") as file:
            data = file.read()
            if "tailLines" in query:
                data = b"".join(data.splitlines(keepends=True)[-int(query["tailLines"]) :])
            self.wfile.write(data)
            while query.get("follow") == "true" and self._goes_on(pod):
                self.wfile.write(file.read())
                self.wfile.flush()
                time.sleep(0.2)
            self.wfile.write(file.read())

    def _goes_on(self, pod: Pod) -> bool:
        over = pod.deleted.is_set() or self.kubelet.stop.is_set()
        return not over and pod.phase not in ("Succeeded", "Failed")

    def log_message(self, *_: object) -> None:
        """Requests are the API server's own business."""


def serve_logs(kubelet: Kubelet, port: int, cert: str, key: str) -> None:
    handler = type("BoundLogs", (Logs,), {"kubelet": kubelet})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main(kubeconfig: str, state: str, port: str, cert: str, key: str, network: str) -> None:
    api = KubeApi.of(Path(kubeconfig))
    kubelet = Kubelet(api, Path(state), network)

    def stop(_number: int, _frame: FrameType | None) -> None:
        kubelet.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    serve_logs(kubelet, int(port), cert, key)
    beats = (api, Path(state), int(port), kubelet.stop)
    threading.Thread(target=beat, args=beats, daemon=True).start()
    threading.Thread(target=kubelet.lose, daemon=True).start()
    services = Services(api, Path(state), network)
    threading.Thread(target=services.run, daemon=True).start()
    threading.Thread(target=kubelet.run, daemon=True).start()
    while not kubelet.stop.wait(1):
        pass
    kubelet.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
