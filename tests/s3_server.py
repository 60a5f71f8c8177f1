"""A real S3 server (moto's) on a free loopback port, and a proxy before it that can be told to answer 503."""

import contextlib
import http.client
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret-that-no-log-may-hold",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"


class Store:
    """A server with one bucket. `away(seconds)` has it answer 503 from now on for so long; `refused` counts those."""

    def __init__(self, bucket="bucket"):
        from moto.server import ThreadedMotoServer

        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._moto.start()
        self._port = self._moto.get_host_and_port()[1]
        self._away_until, self.refused, self.denied, self.requests = 0.0, 0, False, []
        store = self

        class Proxy(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self):
                body = self._body()
                store.requests.append((self.command, self.path))
                if store.denied:
                    return self._answer(403, _SLOW_DOWN.replace(b"SlowDown", b"AccessDenied"))
                if time.monotonic() < store._away_until:
                    store.refused += 1
                    return self._answer(503, _SLOW_DOWN)
                inner = http.client.HTTPConnection("127.0.0.1", store._port, timeout=30)
                skipped = {"transfer-encoding", "expect", "connection"}
                headers = {key: value for key, value in self.headers.items() if key.lower() not in skipped}
                headers["Content-Length"] = str(len(body))
                inner.request(self.command, self.path, body, headers)
                answer = inner.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in {"transfer-encoding", "connection", "content-length", "server", "date"}:
                        self.send_header(key, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                self.wfile.write(content)
                inner.close()
                return None

            def _body(self):
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    parts = []
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    while self.rfile.readline().strip():
                        pass
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _answer(self, status, content):
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815

            def log_message(self, *args):
                pass

        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        self._proxy.daemon_threads = True
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        self.client = self._client()
        self.client.create_bucket(Bucket=bucket)
        self.bucket, self.url = bucket, f"s3://{bucket}/runs"

    def _client(self):
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._port}",
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def away(self, seconds):
        """Answer 503 to everything for so long."""
        self._away_until = time.monotonic() + seconds

    def keys(self):
        """Every object's key, with its size; not those that pyarrow makes for folders, which hold nothing."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {
            item["Key"]: item["Size"]
            for page in pages
            for item in page.get("Contents", [])
            if item["Size"] or not item["Key"].endswith("/")
        }

    def close(self):
        """End both."""
        self._proxy.shutdown()
        self._proxy.server_close()
        self._moto.stop()


@contextlib.contextmanager
def s3_store(cache):
    """A `Store` that this process and those that it starts reach, by their environment; `cache`: of what is fetched."""
    before = dict(os.environ)
    os.environ.update(CREDENTIALS)
    store = Store()
    os.environ |= {"AWS_ENDPOINT_URL": store.endpoint, "AMBIENT_RAY_CACHE": str(cache)}
    try:
        yield store
    finally:
        store.close()
        os.environ.clear()
        os.environ.update(before)
