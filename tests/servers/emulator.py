#!/usr/bin/env python3
"""An object store of the cloud, for tests: S3 by moto, Azure Blob by Azurite, GCS by a translator in front of moto.

    emulator.py s3|azure|gcs [PORT]

Prints one JSON line when it answers: {"url": a URL to put a lake under, "options": object_store's options}. It ends on SIGTERM, on Ctrl-C, and
when standard input is a pipe that closes, so that it never outlives the test that started it. Nothing is kept.

What an emulator must be good at is the conditional write (put if absent, put if unchanged): a Delta commit is one. moto and Azurite hold
under races of 16 writers; others that were tried (s3s-fs, s3rver, gcp-storage-emulator) lose commits and must not be used.
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

BUCKET = "lockgate-test"
STARTS_WITHIN_SECONDS = 30
# Public constants of the emulator, the same on every machine.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def request(port, method, path, headers=None, body=b""):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STARTS_WITHIN_SECONDS)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def wait_for(port, alive=lambda: True):
    deadline = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < deadline and alive():
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"the emulator does not answer on port {port}")


def moto(port):
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False).start()
    wait_for(port)
    check(request(port, "PUT", f"/{BUCKET}", {"Host": f"127.0.0.1:{port}", "Authorization": AWS_ANYONE}))


# moto checks no signature but wants to see one.
AWS_ANYONE = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"


def check(status):
    if status not in (200, 201):
        sys.exit(f"the emulator refused to make its bucket (HTTP {status})")


def s3(port):
    moto(port)
    return {
        "url": f"s3://{BUCKET}/lake",
        "options": {
            "aws_endpoint": f"http://127.0.0.1:{port}",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "aws_region": "us-east-1",
            "aws_allow_http": "true",
            # As S3 does unasked: without it the answers do not say that what is kept is encrypted.
            "aws_server_side_encryption": "AES256",
        },
    }


class GcsOverS3(http.server.BaseHTTPRequestHandler):
    """GCS's XML API is S3's with other header names."""

    protocol_version = "HTTP/1.1"
    moto_port = 0

    def translate(self):
        path, _, query = self.path.partition("?")
        # object_store percent-encodes everything but letters and digits; moto does not undo all of it.
        path = urllib.parse.quote(urllib.parse.unquote(path), safe="/-_.~=") + ("?" + query if query else "")
        headers = {"Host": f"127.0.0.1:{self.moto_port}", "Authorization": AWS_ANYONE}
        for name, value in self.headers.items():
            lower = name.lower()
            if lower == "x-goog-if-generation-match":
                headers["If-None-Match" if value == "0" else "If-Match"] = "*" if value == "0" else value
            elif lower == "x-goog-copy-source":
                headers["x-amz-copy-source"] = value
            elif lower not in ("host", "authorization", "connection", "transfer-encoding"):
                headers[name] = value
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection("127.0.0.1", self.moto_port)
        try:
            connection.request(self.command, path, body=body, headers=headers)
            answer = connection.getresponse()
            payload = answer.read()
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() == "etag":
                self.send_header("x-goog-generation", value)
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(payload)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = translate

    def log_message(self, *_):
        pass


def gcs(port):
    GcsOverS3.moto_port = free_port()
    moto(GcsOverS3.moto_port)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), GcsOverS3)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    account = {
        "gcs_base_url": f"http://127.0.0.1:{port}",
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    options = {"google_service_account_key": json.dumps(account), "allow_http": "true"}
    return {"url": f"gs://{BUCKET}/lake", "options": options}


def azure(port):
    here = os.path.dirname(os.path.abspath(__file__))
    tools = os.environ.get("LOCKGATE_TOOLS") or os.path.join(here, "..", "..", ".tools")
    program = os.path.join(tools, "azurite", "node_modules", ".bin", "azurite-blob")
    if not os.path.exists(program):
        sys.exit("Azurite is not installed; run `scripts/setup.sh test`")
    folder = tempfile.mkdtemp(prefix="lockgate-azurite-")
    arguments = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", folder]
    arguments += ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    process = subprocess.Popen(["node", program, *arguments], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def stop():
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    AT_END.append(stop)
    wait_for(port, alive=lambda: process.poll() is None)
    check(make_container(port))
    return {
        "url": f"az://{BUCKET}/lake",
        "options": {
            "azure_storage_account_name": AZURE_ACCOUNT,
            "azure_storage_account_key": AZURE_KEY,
            "azure_endpoint": f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}",
            "azure_allow_http": "true",
        },
    }


def make_container(port):
    """Azure's shared-key signature over the one request that makes a container."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0"}
    canonical = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
    to_sign = "PUT" + "\n" * 12 + canonical
    digest = hmac.new(base64.b64decode(AZURE_KEY), to_sign.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"
    return request(port, "PUT", f"/{AZURE_ACCOUNT}/{BUCKET}?restype=container", headers)


AT_END = []


def end(*_):
    for action in AT_END:
        action()
    # Server threads would keep the process alive.
    os._exit(0)


def main():
    kinds = {"s3": s3, "azure": azure, "gcs": gcs}
    if not 2 <= len(sys.argv) <= 3 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    port = int(sys.argv[2]) if len(sys.argv) == 3 else free_port()
    try:
        print(json.dumps(kinds[sys.argv[1]](port)), flush=True)
    except SystemExit as refusal:
        print(refusal, file=sys.stderr, flush=True)
        for action in AT_END:
            action()
        os._exit(1)
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        sys.stdin.read()
        end()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
