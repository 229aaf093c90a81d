#!/usr/bin/env python3
"""Caddy as a meshproof adapter: one Caddy per proxy of the plan, configured through its API as an operator would configure it.

A plan becomes a JSON document: a server per listener, a route per virtual host and route, and a `reverse_proxy` per cluster. Caddy's
standard modules pass on no TLS of an application (that needs the layer4 module), so this adapter does not declare the feature.
Caddy's own access log is turned into Istio's JSON format.

What Caddy 2.11 cannot do: it compares a certificate with the server name that it sends and with no other name, and not with the
common name (as Go does); it reads no revocation lists; over HTTP/2 it shares connections to one address between server names; and a
reload closes idle connections of clients."""
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time

# Keeps Python from writing __pycache__ into the source folder.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contract
from contract import Rejected, Unsupported

FEATURES = ["sidecar", "egress-gateway", "ingress-gateway", "mesh-mtls", "mutual-origination", "registry-only",
            "reconfigure-without-restart", "http2", "access-log"]

# What Caddy adds to requests and responses by itself.
ADDED = ["Via"]

# The longest wait for log lines of requests that have ended.
SETTLED = 2.0


class Incapable(Exception):
    """What this proxy cannot do, and no feature is about."""


def literal(text):
    """Text in which Caddy sees no placeholder."""
    return text.replace("{", "\\{")


def logging(key, value):
    """Adds a member to the log line before the request goes on. By default Caddy adds it afterwards, and not at all if the client
    closes its connection as soon as it has the answer."""
    return {"handler": "log_append", "key": key, "value": value, "early": True}


def host_pattern(domain):
    """A domain of the plan as a regular expression on the Host header."""
    if domain == "*":
        return "^.*$"
    if domain.startswith("*."):
        return "(?i)^.*%s$" % re.escape(domain[1:])
    return "(?i)^%s$" % re.escape(domain)


def path_pattern(match):
    """A route's condition on the path, as it was received and with its query."""
    if match == "any":
        return "^"
    (kind, text), = match.items()
    return {"prefix": "^%s", "exact": r"^%s(\?|$)", "regex": r"^(?:%s)(\?|$)"}[kind] % (
        text if kind == "regex" else re.escape(text))


class Configuration:
    """The configuration of one proxy of a plan."""

    def __init__(self, proxy, message, hop, hop_names):
        self.proxy, self.message, self.hop, self.hop_names = proxy, message, hop, hop_names
        self.clusters = {c["name"]: c for c in proxy["clusters"]}
        self.credentials = message["credentials"].get(proxy["name"], [])
        self.servers, self.certificates = {}, []
        for listener in proxy["listeners"]:
            self.listener(listener)

    def document(self, folder):
        return {
            "admin": {"listen": "unix/" + os.path.join(os.path.basename(folder), "admin"), "config": {"persist": False}},
            "logging": {"logs": {
                "default": {"level": "WARN", "writer": {"output": "stderr"}, "exclude": ["http.log.access"]},
                "access": {"include": ["http.log.access"], "encoder": {"format": "json"},
                           "writer": {"output": "file", "filename": os.path.join(folder, "access.log"), "roll": False}},
            }},
            "apps": {
                "http": {"servers": self.servers, "grace_period": "5s", "metrics": {}},
                "tls": {"certificates": {"load_files": self.certificates}, "disable_ocsp_stapling": True},
            },
        }

    def listener(self, listener):
        chains = [c for c in listener["chains"] if "http" in c["action"] and c["matches"]["transport"] != "tls" or c["tls"]]
        chain = next((c for c in chains if c["tls"]), None) or next(iter(chains), None)
        if chain is None:
            return
        hosts = sorted(((contract.domain_rank(d), d, h) for h in chain["action"]["http"]["virtual_hosts"] for d in h["domains"]),
                       key=lambda ranked: ranked[0], reverse=True)
        routes = [{"match": [{"header_regexp": {"Host": {"pattern": host_pattern(domain)}}}],
                   "handle": [{"handler": "subroute", "routes": [self.route(listener, domain, r) for r in host["routes"]]},
                              {"handler": "static_response", "status_code": 404}], "terminal": True}
                  for _, domain, host in hosts]
        routes.append({"handle": [{"handler": "static_response", "status_code": 404}]})
        server = {"listen": [listener["bind"]], "automatic_https": {"disable": True}, "protocols": ["h1", "h2", "h2c"],
                  "routes": [{"handle": [{"handler": "subroute", "routes": routes}]}], "logs": {"default_logger_name": "access"},
                  "max_header_bytes": 1 << 20,
                  # Otherwise Caddy replaces what an application sends in X-Forwarded-Proto and X-Forwarded-Host.
                  "trusted_proxies": {"source": "static", "ranges": ["0.0.0.0/0", "::/0"]},
                  # A sidecar reaches the egress gateway under one server name for many hosts.
                  "strict_sni_host": False}
        if chain["tls"]:
            certificate, key = self.hop.certificate(self.proxy["name"], self.hop_names.get(listener["bind"], ()))
            tag = "c%d" % len(self.certificates)
            self.certificates.append({"certificate": certificate, "key": key, "tags": [tag]})
            policy = {"certificate_selection": {"any_tag": [tag]}, "alpn": ["h2", "http/1.1"],
                      "client_authentication": {"mode": "require_and_verify",
                                                "ca": {"provider": "file", "pem_files": [self.hop.roots]}}}
            names = chain["matches"]["server_names"]
            if names:
                policy["match"] = {"sni": names}
            server["tls_connection_policies"] = [policy]
        self.servers["s%s-%d" % (self.proxy["name"], len(self.servers))] = server

    def route(self, listener, domain, route):
        if route["matches"]["query"]:
            raise Rejected("this adapter does not support conditions on queries")
        match = {"vars_regexp": {"{http.request.orig_uri}": {"pattern": path_pattern(route["matches"]["path"])}}}
        for name, condition in route["matches"]["headers"].items():
            if name != ":authority" or "exact" not in condition:
                raise Rejected("this adapter does not support conditions on headers")
            match["header_regexp"] = {"Host": {"pattern": host_pattern(condition["exact"])}}
        handle = [logging("route_name", literal(route["name"] or "-"))]
        action = route["action"]
        if "direct-response" in action:
            direct = action["direct-response"]
            handle.append({"handler": "static_response", "status_code": direct["status"], "body": literal(direct["body"] or "")})
        elif "redirect" in action:
            raise Rejected("this adapter does not support redirects")
        else:
            handle += self.forward(listener, domain, action["forward"])
        return {"match": [match], "handle": handle, "terminal": True}

    def forward(self, listener, domain, forward):
        if len(forward["clusters"]) != 1:
            raise Rejected("this adapter does not support weighted destinations")
        if forward["path_rewrite"]:
            raise Rejected("this adapter does not support path rewrites")
        cluster = self.clusters.get(forward["clusters"][0]["cluster"])
        name = forward["clusters"][0]["cluster"]
        authority = forward["host_rewrite"]
        handle = [logging("upstream_cluster", literal(name))]
        if authority:
            handle.append(logging("authority", literal(authority)))
        unavailable = {"handler": "static_response", "status_code": 503, "body": "no healthy upstream\n"}
        if cluster is None or cluster["discovery"] == "nowhere":
            return handle + [unavailable]
        # A fixed name where there is one: Caddy shares idle connections between requests to one address.
        host = (authority or (domain if "*" not in domain else "")).rpartition(":")[0] or authority or domain
        try:
            tls = self.origination(cluster, host if "*" not in host else "{http.request.host}")
        except (Unsupported, Incapable) as lack:
            return handle + [dict(unavailable, body="this proxy lacks %s\n" % lack)]
        if tls is False:
            return handle + [unavailable]
        found = cluster["discovery"]
        if "endpoints" in found:
            proxies = [("", found["endpoints"])]
        else:
            proxies = [(d["host"], [d["address"]]) for d in found["original-destination"] if d["port"] == listener["port"]]
        routes = []
        for destination, addresses in proxies:
            if not addresses:
                continue
            proxy = self.reverse_proxy(cluster, forward, tls, addresses)
            # Of several addresses, the one that was chosen is known only afterwards.
            chosen = logging("upstream_host", addresses[0]) if len(addresses) == 1 else {
                "handler": "log_append", "key": "upstream_host", "value": "{http.reverse_proxy.upstream.hostport}"}
            entry = {"handle": [chosen, proxy], "terminal": True}
            if destination and not authority:
                entry["match"] = [{"header_regexp": {"Host": {"pattern": r"(?i)^%s(:\d+)?$" % re.escape(destination)}}}]
            elif destination and destination != authority.rpartition(":")[0] and destination != authority:
                continue
            routes.append(entry)
        return handle + [{"handler": "subroute", "routes": routes}, unavailable]

    def reverse_proxy(self, cluster, forward, tls, addresses):
        request, response = forward["request_headers"], forward["response_headers"]
        operations = {
            "request": {"set": {"Host": [literal(forward["host_rewrite"])] if forward["host_rewrite"] else ["{http.request.hostport}"],
                                **{n: [literal(v)] for n, v in request["set"]}},
                        "add": {n: [literal(v)] for n, v in request["add"]},
                        "delete": ADDED + request["remove"]},
            "response": {"set": {n: [literal(v)] for n, v in response["set"]}, "add": {n: [literal(v)] for n, v in response["add"]},
                         "delete": ADDED + response["remove"]},
        }
        transport = {"protocol": "http", "compression": False, "dial_timeout": "10s"}
        if cluster["protocol"] == "http2":
            transport["versions"] = ["2"] if tls else ["h2c"]
        else:
            transport["versions"] = ["1.1"]
        if tls:
            transport["tls"] = tls
        if forward["timeout_ms"]:
            transport["response_header_timeout"] = "%dms" % forward["timeout_ms"]
        return {"handler": "reverse_proxy", "upstreams": [{"dial": a} for a in addresses], "headers": operations, "transport": transport,
                "flush_interval": -1, "load_balancing": {"selection_policy": {"policy": "round_robin"}}}

    def origination(self, cluster, host):
        """The transport's `tls`: None for plain text, False while a credential is missing."""
        tls = cluster["tls"]
        if tls is None:
            return None
        if "mesh-mutual" in tls:
            certificate, key = self.hop.certificate(self.proxy["name"], ())
            return {"server_name": tls["mesh-mutual"]["sni"], "ca": {"provider": "file", "pem_files": [self.hop.roots]},
                    "client_certificate_file": certificate, "client_certificate_key_file": key}
        origin = contract.Origin(tls["originate"], self.credentials, self.message["system_roots"])
        if origin.missing:
            return False
        # `server_name` is the name that is sent and the name that the certificate must have.
        if origin.crl:
            raise Incapable("revocation lists")
        if origin.min_version or origin.max_version:
            raise Incapable("limits of the TLS version")
        if origin.needs_other_names():
            raise Unsupported("san-validation")
        made = {"server_name": origin.sni or host}
        if origin.verified:
            made["ca"] = {"provider": "file", "pem_files": [origin.roots]}
        else:
            made["insecure_skip_verify"] = True
        if origin.certificate:
            made.update(client_certificate_file=origin.certificate, client_certificate_key_file=origin.key)
        return made


class Api(http.client.HTTPConnection):
    """A connection to Caddy's API."""

    def __init__(self, path):
        super().__init__("admin", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class CaddyProxy(contract.LoggedProcess):
    """The Caddy of one proxy of the plan."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.admin = os.path.join(os.path.basename(folder), "admin")
        self.document = None
        os.makedirs(folder, 0o700, exist_ok=True)
        self.errors = open(os.path.join(folder, "stderr"), "wb")
        self.log = open(os.path.join(folder, "access.log"), "a+b")

    def ask(self, method, path, body=None):
        api = Api(self.admin)
        try:
            api.request(method, path, body, {"Content-Type": "application/json", "Host": "admin", "Cache-Control": "must-revalidate"})
            answer = api.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            api.close()

    def apply(self, document):
        if document == self.document:
            return
        text = json.dumps(document)
        if self.process is None:
            path = contract.private(os.path.join(self.folder, "caddy.json"), text)
            environment = dict(os.environ, HOME=self.folder, XDG_DATA_HOME=self.folder, XDG_CONFIG_HOME=self.folder)
            self.process = subprocess.Popen(["caddy", "run", "--config", path], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=self.errors, env=environment)
            contract.until(lambda: self.process.poll() is not None or self.answers(), "Caddy answers on its API")
            if self.process.poll() is not None:
                raise Rejected(contract.read(self.errors.name)[-2000:])
        else:
            status, answer = self.ask("POST", "/load", text)
            if status != 200:
                raise Rejected(answer)
        self.document = document

    def answers(self):
        try:
            return self.ask("GET", "/config/")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def counted(self):
        """How many requests are in flight, and how many have ended, as Caddy counts them."""
        flying = ended = 0
        for line in self.ask("GET", "/metrics")[1].splitlines():
            if 'handler="subroute"' not in line:
                continue
            if line.startswith("caddy_http_requests_in_flight{"):
                flying += float(line.rpartition(" ")[2])
            elif line.startswith("caddy_http_request_duration_seconds_count{"):
                ended += float(line.rpartition(" ")[2])
        return flying, ended

    def settle(self):
        contract.alive(self.process, "Caddy", self.errors.name)
        self.read()
        deadline = time.monotonic() + SETTLED
        while time.monotonic() < deadline:
            flying, _ = self.counted()
            self.read()
            if not flying:
                # Caddy writes a request's line right after it has counted its end.
                if self.read() == 0:
                    return

    @staticmethod
    def logged(line):
        """A line of Caddy's access log in Istio's format."""
        line = json.loads(line)
        request = line["request"]
        started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line["ts"])) + "Z"
        agent = request.get("headers", {}).get("User-Agent", ["-"])[0]
        entry = {"start_time": started, "method": request["method"], "path": request["uri"], "protocol": request["proto"],
                 "response_code": line["status"], "user_agent": agent, "authority": line.get("authority") or request["host"],
                 "upstream_host": line.get("upstream_host") or "-", "upstream_cluster": line.get("upstream_cluster") or "-",
                 "downstream_remote_address": "%s:%s" % (request["remote_ip"], request["remote_port"]),
                 "requested_server_name": request.get("tls", {}).get("server_name") or "-", "route_name": line.get("route_name") or "-",
                 "bytes_received": line.get("bytes_read"), "bytes_sent": line.get("size"),
                 "duration": round(line.get("duration", 0) * 1000),
                 "request_id": request.get("headers", {}).get("X-Request-Id", ["-"])[0]}
        return json.dumps(entry)


class Caddy(contract.PerProxy):
    program, name, features, process = "caddy", "Caddy", FEATURES, CaddyProxy

    def version(self):
        words = subprocess.run(["caddy", "version"], capture_output=True, text=True).stdout.split()
        return words[0].lstrip("v") if words else "unknown"

    def configuration(self, proxy, message):
        made = Configuration(proxy, message, self.hop, self.hop_names)
        return made.document(self.folder_of(proxy["name"]))


contract.serve(Caddy())
