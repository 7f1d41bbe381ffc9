#!/usr/bin/env python3
"""A cloud's key manager, for tests: AWS KMS by moto (which checks signatures and rights), Google Cloud KMS and Azure Key Vault by doubles.

    key_manager.py aws|gcp|azure FOLDER

Prints one JSON line when it answers, {"variables": what a program needs in its environment, "reference": a key and "#", "other": another
key, "control": a URL, "tls": the same server behind a certificate that no system trusts, "identities": environments by name}, writes
what it makes into FOLDER, and ends when standard input closes.

The doubles refuse what the real ones would refuse: paths, API versions, fields, checksums, additional data, signatures of tokens and what
they are for. They decrypt with `cryptography`. A POST to the control URL, {"fault": NAME, "times": N}, spoils the next N answers about
keys; a GET says how many requests there were about keys and about tokens, and how many followed a redirect.
"""

import base64
import datetime
import http.client
import http.server
import ipaddress
import json
import os
import re
import secrets
import ssl
import sys
import threading
import time
import urllib.parse

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# Longer than any patience of the program under test.
HANGS_SECONDS = 30
JSON = "application/json"


class Refused(Exception):
    def __init__(self, status, body, headers=None):
        self.status, self.body, self.headers = status, body, headers or {}


def b64(data):
    return base64.b64encode(data).decode()


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def un_url64(text):
    if "=" in text or "+" in text or "/" in text:
        raise ValueError("not base64url without padding")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def crc32c(data):
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    value = 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def private_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key):
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def certificate(key, name, authority=None):
    """Signed by an authority, a key and its certificate; or by itself, as one."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer, issuer = (authority[0], authority[1].subject) if authority else (key, subject)
    now = datetime.datetime.now(datetime.timezone.utc)
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    built = built.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    built = built.not_valid_after(now + datetime.timedelta(days=30))
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    return built.sign(signer, hashes.SHA256())


def jwt(token, public, scheme):
    """The claims of a token whose signature and times are right."""
    head, claims, mark = token.split(".")
    how = padding.PKCS1v15() if scheme == "RS256" else padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    public.verify(un_url64(mark), f"{head}.{claims}".encode(), how, hashes.SHA256())
    head, claims = json.loads(un_url64(head)), json.loads(un_url64(claims))
    assert head["alg"] == scheme and head["typ"] == "JWT", head
    now = time.time()
    assert claims["iat"] - 60 <= now <= claims["exp"] <= now + 3700, "not in its time"
    return head, claims


class Manager:
    """What the three share: faults, counters, the token servers."""

    def __init__(self, folder):
        self.folder, self.faults, self.lock, self.disabled = folder, [], threading.Lock(), False
        self.asked = {"keys": 0, "tokens": 0, "followed": 0}
        self.port = 0

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o600)
        return path

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"

    def about_keys(self, request):
        self.asked["keys"] += 1
        with self.lock:
            fault = self.faults.pop(0) if self.faults else None
        if fault == "hang":
            time.sleep(HANGS_SECONDS)
        if fault == "redirect":
            raise Refused(307, b"", {"Location": self.url("/followed")})
        if fault == "error":
            raise Refused(503, b"<html>hunter2</html>")
        if fault == "strange":
            return 200, b"<html>hunter2</html>"
        if fault == "huge":
            return 200, b"hunter2" * 100_000
        if fault:
            raise self.fault(fault)
        return self.key(request)


class Aws(Manager):
    """moto behind a door that can be spoiled. It knows a user who may, and one who may not."""

    def start(self):
        import logging

        os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000"
        import boto3
        import moto.core.responses as responses
        from moto import settings
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        self.moto = server.get_host_and_port()[1]

        def client(name):
            keys = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
            place = f"http://127.0.0.1:{self.moto}"
            return boto3.client(name, region_name="us-east-1", endpoint_url=place, **keys)

        kms, iam = client("kms"), client("iam")
        key, other = (kms.create_key()["KeyMetadata"] for _ in range(2))
        kms.create_alias(AliasName="alias/lockgate", TargetKeyId=key["KeyId"])
        actions = [{"Effect": "Allow", "Action": ["kms:Decrypt", "kms:Encrypt"], "Resource": "*"}]
        people = {}
        iam.create_role(RoleName="lockgate", AssumeRolePolicyDocument="{}")
        document = json.dumps({"Version": "2012-10-17", "Statement": actions})
        iam.put_role_policy(RoleName="lockgate", PolicyName="p", PolicyDocument=document)
        arn = "arn:aws:iam::123456789012:role/lockgate"
        self.role = client("sts").assume_role(RoleArn=arn, RoleSessionName="lockgate")["Credentials"]
        for name, statement in [("good", actions), ("denied", [{**actions[0], "Action": "s3:GetObject"}])]:
            iam.create_user(UserName=name)
            document = json.dumps({"Version": "2012-10-17", "Statement": statement})
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
            made = iam.create_access_key(UserName=name)["AccessKey"]
            people[name] = (made["AccessKeyId"], made["SecretAccessKey"])
        # From here on moto looks at every signature and right.
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        responses.ActionAuthenticatorMixin.request_count = 0
        def named(user):
            return {"AWS_ACCESS_KEY_ID": user[0], "AWS_SECRET_ACCESS_KEY": user[1]}

        profile = "# c\n[default]\nregion = eu-west-1\n[{}work]\n{}\n"
        pair = "aws_access_key_id = {}\naws_secret_access_key= {}".format(*people["good"])
        files = {
            "AWS_SHARED_CREDENTIALS_FILE": self.file("credentials", profile.format("", pair)),
            "AWS_CONFIG_FILE": self.file("config", profile.format("profile ", "region = us-east-1")),
            "AWS_PROFILE": "work",
        }
        token = self.file("container-token", "container-token\n")
        identity = self.file("web-identity", "web-identity\n")
        container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.url("/container")}
        machine = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url("/")}
        web = {"AWS_WEB_IDENTITY_TOKEN_FILE": identity, "AWS_ROLE_ARN": arn}
        return {
            "variables": {"AWS_ENDPOINT_URL_KMS": self.url("/"), "AWS_REGION": "us-east-1"},
            "endpoint": "AWS_ENDPOINT_URL_KMS",
            "reference": f"aws-kms:{key['Arn']}#",
            "alias": "aws-kms:alias/lockgate#",
            "other": f"aws-kms:{other['Arn']}#",
            "absent": f"aws-kms:{key['Arn'][:-12]}000000000000#",
            "identities": {
                "good": named(people["good"]),
                "denied": named(people["denied"]),
                "unknown": named((people["good"][0], "hunter2hunter2")),
                "profile": files,
                "container": {**container, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token},
                "container token": {**container, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "container-token"},
                "machine": machine,
                "web": {**web, "AWS_ENDPOINT_URL_STS": self.url("/sts")},
                "wrong container": {**container, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "hunter2"},
                "half": {"AWS_ACCESS_KEY_ID": people["good"][0]},
                "no profile": {**files, "AWS_PROFILE": "hunter2"},
                "nobody": {"AWS_EC2_METADATA_DISABLED": "true"},
            },
        }

    def fault(self, name):
        what = {"throttle": "ThrottlingException", "denied": "AccessDeniedException"}[name]
        return Refused(400, json.dumps({"__type": what, "message": "hunter2"}).encode())

    def key(self, request):
        target = request.headers.get("X-Amz-Target", "")
        assert target in ("TrentService.Decrypt", "TrentService.Encrypt"), target
        assert request.headers["Content-Type"] == "application/x-amz-json-1.1"
        body = json.loads(request.body)
        # Its value is compared by moto's cipher.
        assert list(body["EncryptionContext"]) == ["lockgate-tenant"], "context"
        # moto decrypts with a key that is disabled; KMS does not.
        if self.disabled:
            raise Refused(400, json.dumps({"__type": "DisabledException"}).encode())
        # Nor does moto look whether the key that is named is the one that encrypted; its blobs begin with that one's id.
        wrapped_by = base64.b64decode(body.get("CiphertextBlob", ""))[:36].decode(errors="replace")
        if wrapped_by and "alias" not in body["KeyId"] and not body["KeyId"].endswith(wrapped_by):
            raise Refused(400, json.dumps({"__type": "IncorrectKeyException"}).encode())
        connection = http.client.HTTPConnection("127.0.0.1", self.moto)
        connection.request("POST", request.path, body=request.body, headers=dict(request.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()

    def token(self, request):
        path, headers = request.path, request.headers
        given = {name: self.role[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}
        role = {"AccessKeyId": given["AccessKeyId"], "SecretAccessKey": given["SecretAccessKey"], "Code": "Success"}
        role["Token"] = given["SessionToken"]
        if path == "/container":
            if headers.get("Authorization") != "container-token":
                raise Refused(401, b"hunter2")
            return 200, json.dumps(role).encode()
        if path == "/latest/api/token" and request.command == "PUT":
            assert 0 < int(headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
            return 200, b"machine-token"
        if path.startswith("/latest/meta-data/iam/security-credentials/"):
            if headers.get("X-aws-ec2-metadata-token") != "machine-token":
                raise Refused(401, b"hunter2")
            return 200, json.dumps(role).encode() if path.endswith("/lockgate-role") else b"lockgate-role"
        if path == "/sts" and request.command == "POST":
            form = dict(urllib.parse.parse_qsl(request.body.decode()))
            assert form["Action"] == "AssumeRoleWithWebIdentity" and form["Version"] == "2011-06-15", form
            assert form["WebIdentityToken"] == "web-identity" and form["RoleArn"].startswith("arn:"), form
            fields = "".join(f"<{name}>{value}</{name}>" for name, value in given.items())
            fields += "<Expiration>2099-01-01T00:00:00Z</Expiration>"
            result = f"<AssumeRoleWithWebIdentityResult><Credentials>{fields}</Credentials></AssumeRoleWithWebIdentityResult>"
            return 200, f"<AssumeRoleWithWebIdentityResponse>{result}</AssumeRoleWithWebIdentityResponse>".encode()
        return None


class Gcp(Manager):
    NAME = r"/v1/(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/:]+):(encrypt|decrypt)"
    EMAIL = "lockgate@claims.iam.gserviceaccount.com"

    def start(self):
        ring = "projects/claims/locations/global/keyRings/lockgate/cryptoKeys/"
        self.keys = {ring + name: AESGCM(AESGCM.generate_key(256)) for name in ("master", "other")}
        self.account, self.tokens = private_key(), {"metadata-token"}
        account = {
            "type": "service_account",
            "project_id": "claims",
            "private_key_id": "key-1",
            "private_key": pem(self.account),
            "client_email": self.EMAIL,
            "token_uri": "https://oauth2.googleapis.com/token",
        }
        person = {"type": "authorized_user", "client_id": "a", "client_secret": "hunter2", "refresh_token": "hunter2"}
        name = "GOOGLE_APPLICATION_CREDENTIALS"
        good = {name: self.file("account.json", json.dumps(account))}
        stranger = self.file("stranger.json", json.dumps({**account, "private_key": pem(private_key())}))
        config = os.path.join(self.folder, "gcloud")
        os.makedirs(config, exist_ok=True)
        self.file("gcloud/application_default_credentials.json", json.dumps(account))
        return {
            "variables": {"CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS": self.url("/")},
            "endpoint": "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS",
            "reference": f"gcp-kms:{ring}master#",
            "other": f"gcp-kms:{ring}other#",
            "absent": f"gcp-kms:{ring}absent#",
            "identities": {
                "good": good,
                "default file": {"CLOUDSDK_CONFIG": config},
                "machine": {"GCE_METADATA_HOST": f"127.0.0.1:{self.port}"},
                "token": {"CLOUDSDK_AUTH_ACCESS_TOKEN": "metadata-token"},
                "unknown": {name: stranger},
                "person": {name: self.file("person.json", json.dumps(person))},
                "no file": {name: os.path.join(self.folder, "nowhere.json")},
                "damaged file": {name: self.file("damaged.json", json.dumps({**account, "private_key": "hunter2"}))},
            },
        }

    @staticmethod
    def refusal(status, name):
        error = {"code": status, "message": "hunter2", "status": name}
        return Refused(status, json.dumps({"error": error}).encode())

    def fault(self, name):
        return self.refusal(*{"throttle": (429, "RESOURCE_EXHAUSTED"), "denied": (403, "PERMISSION_DENIED")}[name])

    def key(self, request):
        matched = re.fullmatch(self.NAME, request.path)
        assert matched and request.command == "POST" and request.headers["Content-Type"].startswith(JSON), request.path
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if token not in self.tokens:
            try:
                head, claims = jwt(token, self.account.public_key(), "RS256")
            except (InvalidSignature, ValueError):
                raise self.refusal(401, "UNAUTHENTICATED") from None
            assert head["kid"] == "key-1" and claims["iss"] == claims["sub"] == self.EMAIL, claims
            assert claims["scope"] == "https://www.googleapis.com/auth/cloudkms" and "aud" not in claims, claims
        assert scheme == "Bearer"
        key = self.keys.get(matched[1])
        if key is None:
            raise self.refusal(404, "NOT_FOUND")
        if self.disabled:
            raise self.refusal(400, "FAILED_PRECONDITION")
        body = json.loads(request.body)
        field = "plaintext" if matched[2] == "encrypt" else "ciphertext"
        assert set(body) == {f"{n}{s}" for n in (field, "additionalAuthenticatedData") for s in ("", "Crc32c")}, set(body)
        data, bound = (base64.b64decode(body[name], validate=True) for name in (field, "additionalAuthenticatedData"))
        # int64 is a string in the JSON of Google's APIs.
        assert body[f"{field}Crc32c"] == str(crc32c(data)), "checksum"
        assert body["additionalAuthenticatedDataCrc32c"] == str(crc32c(bound)) and bound.startswith(b"lockgate-tenant="), bound
        if matched[2] == "encrypt":
            nonce = secrets.token_bytes(12)
            made = nonce + key.encrypt(nonce, data, bound)
            return 200, self.answer("ciphertext", made, {"name": f"{matched[1]}/cryptoKeyVersions/1"})
        try:
            opened = key.decrypt(data[:12], data[12:], bound)
        except (InvalidTag, ValueError):
            raise self.refusal(400, "INVALID_ARGUMENT") from None
        return 200, self.answer("plaintext", opened, {"usedPrimary": True})

    @staticmethod
    def answer(field, data, more):
        fields = {field: b64(data), f"{field}Crc32c": str(crc32c(data)), "protectionLevel": "SOFTWARE"}
        return json.dumps({**fields, **more}).encode()

    def token(self, request):
        path, _, query = request.path.partition("?")
        if path != "/computeMetadata/v1/instance/service-accounts/default/token":
            return None
        if request.headers.get("Metadata-Flavor") != "Google":
            raise Refused(403, b"hunter2")
        assert query == "scopes=" + urllib.parse.quote("https://www.googleapis.com/auth/cloudkms", safe=""), query
        return 200, json.dumps({"access_token": "metadata-token", "expires_in": 3599, "token_type": "Bearer"}).encode()


class Azure(Manager):
    TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"

    def start(self):
        self.keys = {f"/keys/{name}/{'0' * 31}1": private_key() for name in ("master", "other")}
        self.tokens = set()
        self.principal = private_key()
        self.certificate = certificate(self.principal, "lockgate")
        text = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        who = {"AZURE_TENANT_ID": self.TENANT, "AZURE_CLIENT_ID": self.CLIENT, "AZURE_AUTHORITY_HOST": self.url("/")}
        master, other = self.keys
        path = "AZURE_CLIENT_CERTIFICATE_PATH"
        service = {"IDENTITY_ENDPOINT": self.url("/msi/token"), "IDENTITY_HEADER": "msi-header"}
        return {
            "variables": {},
            "reference": f"azure-kv:{self.url(master)}#",
            "other": f"azure-kv:{self.url(other)}#",
            "absent": f"azure-kv:{self.url('/keys/absent/1')}#",
            "identities": {
                "good": {**who, "AZURE_CLIENT_SECRET": "client-secret"},
                "certificate": {**who, path: self.file("principal.pem", pem(self.principal) + text)},
                "federated": {**who, "AZURE_FEDERATED_TOKEN_FILE": self.file("federated", "federated-token\n")},
                "machine": {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self.url("/")},
                "assigned": {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self.url("/"), "AZURE_CLIENT_ID": self.CLIENT},
                "service": service,
                "unknown": {**who, "AZURE_CLIENT_SECRET": "hunter2"},
                "stranger": {**who, path: self.file("stranger.pem", pem(private_key()) + text)},
                "no tenant": {"AZURE_CLIENT_ID": self.CLIENT, "AZURE_CLIENT_SECRET": "hunter2"},
                "no certificate": {**who, path: self.file("bare.pem", pem(self.principal))},
            },
        }

    @staticmethod
    def refusal(status, code, inner=None):
        error = {"code": code, "message": "hunter2"}
        if inner:
            error["innererror"] = {"code": inner}
        return Refused(status, json.dumps({"error": error}).encode())

    def fault(self, name):
        faults = {"throttle": (429, "Throttled"), "denied": (403, "Forbidden", "ForbiddenByRbac")}
        return self.refusal(*faults[name])

    def key(self, request):
        path, _, query = request.path.partition("?")
        place, _, action = path.rpartition("/")
        assert action in ("wrapkey", "unwrapkey") and request.command == "POST" and query == "api-version=7.4", request.path
        assert request.headers["Content-Type"].startswith(JSON)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            raise self.refusal(401, "Unauthorized")
        key = self.keys.get(place)
        if key is None:
            raise self.refusal(404, "KeyNotFound")
        if self.disabled:
            raise self.refusal(403, "Forbidden", "KeyDisabled")
        body = json.loads(request.body)
        assert set(body) == {"alg", "value"} and body["alg"] == "RSA-OAEP-256", body
        data = un_url64(body["value"])
        oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        try:
            made = key.public_key().encrypt(data, oaep) if action == "wrapkey" else key.decrypt(data, oaep)
        except ValueError:
            raise self.refusal(400, "BadParameter") from None
        return 200, json.dumps({"kid": self.url(place), "value": url64(made)}).encode()

    def token(self, request):
        path, _, query = request.path.partition("?")
        form = dict(urllib.parse.parse_qsl(query or request.body.decode()))
        if path == f"/{self.TENANT}/oauth2/v2.0/token" and request.command == "POST":
            assert form["grant_type"] == "client_credentials" and form["client_id"] == self.CLIENT, form
            assert form["scope"] == "https://vault.azure.net/.default", form
            if not self.believed(form):
                raise Refused(401, json.dumps({"error": "invalid_client", "error_description": "hunter2"}).encode())
        elif path == "/metadata/identity/oauth2/token":
            if request.headers.get("Metadata") != "true":
                raise Refused(400, b"hunter2")
            assert form["api-version"] == "2018-02-01" and form["resource"] == "https://vault.azure.net", form
            assert form.get("client_id") in (None, self.CLIENT), form
        elif path == "/msi/token":
            if request.headers.get("X-IDENTITY-HEADER") != "msi-header":
                raise Refused(401, b"hunter2")
            assert form["api-version"] == "2019-08-01" and form["resource"] == "https://vault.azure.net", form
        else:
            return None
        token = secrets.token_urlsafe(40)
        self.tokens.add(token)
        return 200, json.dumps({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}).encode()

    def believed(self, form):
        if "client_secret" in form:
            return form["client_secret"] == "client-secret"
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", form
        if form["client_assertion"] == "federated-token":
            return True
        try:
            head, claims = jwt(form["client_assertion"], self.principal.public_key(), "PS256")
        except InvalidSignature:
            return False
        assert head["x5t#S256"] == url64(self.certificate.fingerprint(hashes.SHA256())), head
        assert claims["aud"] == self.url(f"/{self.TENANT}/oauth2/v2.0/token"), claims
        assert claims["iss"] == claims["sub"] == self.CLIENT and claims["jti"], claims
        return True


class Door(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    manager = None

    def answer(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {}
        try:
            status, body = self.decide()
        except Refused as refused:
            status, body, headers = refused.status, refused.body, refused.headers
        except (AssertionError, KeyError, ValueError, TypeError) as wrong:
            # Not what the real one's documentation asks for.
            print(f"{self.path}: {wrong!r}", file=sys.stderr, flush=True)
            status, body = 418, b"hunter2"
        self.send_response(status)
        for name, value in {"Content-Type": JSON, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer

    def decide(self):
        manager = self.manager
        if self.path == "/control":
            if self.command == "POST":
                wanted = json.loads(self.body)
                with manager.lock:
                    manager.disabled = wanted["fault"] == "disabled"
                    manager.faults = [] if manager.disabled else [wanted["fault"]] * wanted["times"]
            return 200, json.dumps(manager.asked).encode()
        if self.path == "/followed":
            manager.asked["followed"] += 1
            return 200, b"{}"
        given = manager.token(self)
        if given is not None:
            manager.asked["tokens"] += 1
            return given
        return manager.about_keys(self)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that hangs up, or does not like the certificate, is what some tests are about."""


def serve(manager, context=None):
    server = Server(("127.0.0.1", 0), type("Of", (Door,), {"manager": manager}))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    kinds = {"aws": Aws, "gcp": Gcp, "azure": Azure}
    if len(sys.argv) != 3 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    manager = kinds[sys.argv[1]](sys.argv[2])
    manager.port = serve(manager)
    place = manager.start()
    key, authority_key = private_key(), private_key()
    authority = certificate(authority_key, "an authority that nobody knows")
    signed = certificate(key, "localhost", (authority_key, authority)).public_bytes(serialization.Encoding.PEM).decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(manager.file("tls.pem", pem(key) + signed))
    place["authority"] = manager.file("authority.pem", authority.public_bytes(serialization.Encoding.PEM).decode())
    place["tls"] = f"https://localhost:{serve(manager, context)}/"
    place["plain"], place["control"] = manager.url("/"), manager.url("/control")
    print(json.dumps(place), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
