#!/usr/bin/env python3
"""The worked example of docs/adapters.md: a forwarding proxy in plain Python that originates TLS, as a meshproof adapter.

It listens and routes as the plan says. Where the plan demands TLS, it originates TLS and verifies the server's certificate
and name. It can do nothing else, and its `hello` declares nothing else.
"""
import datetime
import http.client
import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FEATURES = ["sidecar", "registry-only", "access-log"]

speaking = threading.Lock()


def say(**message):
    """Sends one message to the suite, which is one line of JSON. Log lines come from many threads."""
    with speaking:
        print(json.dumps(message), flush=True)


class Unsupported(Exception):
    """The plan needs a feature that this proxy lacks."""


class AppliedPlan:
    """One applied plan, prepared for answering requests."""

    def __init__(self, apply):
        self.listeners = {}  # address -> (proxy name, listener, virtual hosts, clusters by name)
        self.tls = {}  # (proxy name, cluster name) -> (ssl.SSLContext, server name, or None for the request's host)
        self.lacks = {}  # (proxy name, cluster name) -> the missing feature that the cluster needs
        for proxy in apply["plan"]["proxies"]:
            clusters = {c["name"]: c for c in proxy["clusters"]}
            for cluster in clusters.values():
                # A plan contains more than a scenario asks about. A missing feature matters only if a request needs it.
                try:
                    if cluster["protocol"] == "http2":
                        raise Unsupported("http2")
                    if cluster["tls"]:
                        self.tls[proxy["name"], cluster["name"]] = client_tls(cluster["tls"], apply)
                except Unsupported as lack:
                    self.lacks[proxy["name"], cluster["name"]] = str(lack)
            for listener in proxy["listeners"]:
                for chain in listener["chains"]:
                    # An application's own TLS needs the feature tls-passthrough; the mesh's TLS needs mesh-mtls.
                    if "http" in chain["action"] and chain["matches"]["transport"] != "tls" and not chain["tls"]:
                        hosts = chain["action"]["http"]["virtual_hosts"]
                        self.listeners[listener["bind"]] = (proxy["name"], listener, hosts, clusters)


def client_tls(tls, apply):
    """How TLS is originated to an external service."""
    if "mesh-mutual" in tls:
        raise Unsupported("mesh-mtls")
    tls = tls["originate"]
    if tls["client_certificate"]:
        raise Unsupported("mutual-origination")
    fixed = tls["sni"]["fixed"] if "fixed" in tls["sni"] else None
    if tls["trust"] == "anybody":
        context = ssl._create_unverified_context()
    elif tls["trust"] == "system-roots":
        context = ssl.create_default_context(cafile=apply["system_roots"])
    else:
        raise Unsupported("mutual-origination")  # The roots come from a credential, which this proxy does not support.
    if tls["trust"] != "anybody":
        # Python compares the certificate with the server name that it sends, and with no other name.
        if tls["names"] == "chain-only":
            context.check_hostname = False
        elif tls["names"] != ("from-host" if fixed is None else {"one-of": [fixed]}):
            raise Unsupported("san-validation")
    context.set_alpn_protocols(["http/1.1"])
    return context, fixed


def virtual_host(hosts, authority):
    """The virtual host by precedence: an exact domain, then the longest `*.suffix`, then `*`."""
    def rank(domain):
        if domain == authority:
            return 3, 0
        if domain.startswith("*.") and authority.endswith(domain[1:]):
            return 2, len(domain)
        return (1, 0) if domain == "*" else (0, 0)

    ranked = [(rank(d), h) for h in hosts for d in h["domains"]]
    best = max(ranked, key=lambda r: r[0], default=((0, 0), None))
    return best[1] if best[0] > (0, 0) else None


def matches_path(match, path):
    """Whether a route matches this path. The scenarios that this proxy can run use no conditions on headers or queries."""
    if match["headers"] or match["query"]:
        return False
    kind = match["path"]
    if kind == "any":
        return True
    (kind, text), = kind.items()
    return path.startswith(text) if kind == "prefix" else path == text


def address_of(cluster, host, port):
    """The address and port of a cluster, or None."""
    found = cluster["discovery"]
    if found == "nowhere":
        return None
    addresses = found.get("endpoints") or [
        d["address"] for d in found.get("original-destination", []) if d["host"] == host and d["port"] == port]
    if not addresses:
        return None
    name, _, number = addresses[0].rpartition(":")
    return name, int(number)


class Server(ThreadingHTTPServer):
    # Python's own default of 5 resets connections when several clients connect at once.
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        # Read once per request: a plan that is applied in the meantime holds for the next request.
        plan, bind = self.server.proxy.plan, self.server.bind
        if bind not in plan.listeners:
            self.close_connection = True
            return
        name, listener, hosts, clusters = plan.listeners[bind]
        authority = self.headers.get("Host", "").lower()
        # As received: `self.path` has one slash where the request has several at its beginning.
        self.path = self.requestline.split()[1]
        body = self.body()
        log = dict(start_time=datetime.datetime.now(datetime.timezone.utc).isoformat(), method=self.command,
                   path=self.path, protocol=self.request_version, authority=authority,
                   user_agent=self.headers.get("User-Agent", "-"), upstream_host="-", upstream_cluster="-")
        try:
            status, headers, content = self.answer(plan, name, listener, hosts, clusters, authority, body, log)
        except (OSError, http.client.HTTPException) as error:
            status, headers, content = 503, [], f"upstream failed: {error}\n".encode()
        # Sent before the response: when the client has its response, the line is sent, so `settle` need not wait.
        say(type="log", proxy=name, line=json.dumps({**log, "response_code": status}))
        self.send_response_only(status)
        bodiless = self.command == "HEAD" or status in (204, 304)
        hop_by_hop = ("connection", "keep-alive", "transfer-encoding") + (() if bodiless else ("content-length",))
        for header, value in headers:
            if header.lower() not in hop_by_hop:
                self.send_header(header, value)
        if not bodiless:
            self.send_header("Content-Length", len(content))
        self.end_headers()
        self.wfile.write(b"" if bodiless else content)

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = forward

    def answer(self, plan, proxy, listener, hosts, clusters, authority, body, log):
        host = virtual_host(hosts, authority)
        path = self.path.partition("?")[0]
        route = next((r for r in host["routes"] if matches_path(r["matches"], path)), None) if host else None
        if route is None:
            return 404, [], b""
        if "forward" not in route["action"]:
            direct = route["action"].get("direct-response", {"status": 500, "body": "this proxy does not support the action of this route\n"})
            return direct["status"], [], direct["body"].encode()
        forward = route["action"]["forward"]
        name = forward["clusters"][0]["cluster"]
        # A route may name a cluster that the plan does not hold (no such service, port or subset).
        cluster = clusters.get(name, {"name": name, "discovery": "nowhere"})
        authority = forward["host_rewrite"] or authority
        name = authority.partition(":")[0]
        log["upstream_cluster"], log["authority"] = cluster["name"], authority
        if (proxy, cluster["name"]) in plan.lacks:
            return 503, [], f"this proxy lacks {plan.lacks[proxy, cluster['name']]}\n".encode()
        address = address_of(cluster, name, listener["port"])
        if address is None:
            return 503, [], b"no healthy upstream\n"
        log["upstream_host"] = "%s:%d" % address
        upstream = http.client.HTTPConnection(*address, timeout=30)
        upstream.response_class = FinalResponse
        upstream.connect()
        try:
            if (proxy, cluster["name"]) in plan.tls:
                context, fixed = plan.tls[proxy, cluster["name"]]
                upstream.sock = context.wrap_socket(upstream.sock, server_hostname=fixed or name)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            upstream.putheader("Host", authority)
            # The fields of this connection, and those that its Connection field names (RFC 9110, section 7.6.1).
            named = [n.strip().lower() for v in self.headers.get_all("Connection", []) for n in v.split(",")]
            own = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "expect", *named}
            for header, value in self.headers.items():
                if header.lower() not in own:
                    upstream.putheader(header, value)
            if body or self.command in ("POST", "PUT"):
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            response = upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            upstream.close()

    def log_message(self, *_):
        pass


class FinalResponse(http.client.HTTPResponse):
    """An answer that is not interim: http.client itself passes over 100 alone."""

    def _read_status(self):
        while True:
            version, status, reason = super()._read_status()
            if not 101 < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


class ForwardingProxy:
    def __init__(self):
        self.plan, self.servers = None, {}

    def apply(self, message):
        plan = AppliedPlan(message)
        for bind in plan.listeners.keys() - self.servers.keys():
            host, _, port = bind.rpartition(":")
            server = Server((host, int(port)), Handler)
            server.daemon_threads, server.proxy, server.bind = True, self, bind
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            self.servers[bind] = server
        self.plan = plan
        for bind in self.servers.keys() - plan.listeners.keys():
            self.close(bind)

    def close(self, bind):
        server = self.servers.pop(bind)
        server.shutdown()
        server.server_close()


def main():
    proxy = ForwardingProxy()
    for line in sys.stdin:
        message = json.loads(line)
        kind = message["type"]
        if kind == "hello":
            version = "%d.%d.%d" % sys.version_info[:3]
            say(type="hello", contract=1, name="Python example", version=version, features=FEATURES)
        elif kind == "apply":
            revision = message["revision"]
            try:
                proxy.apply(message)
                say(type="applied", revision=revision)
            except OSError as error:
                say(type="rejected", revision=revision, reason=str(error))
        elif kind == "settle":
            say(type="settled")
        elif kind == "stop":
            for bind in list(proxy.servers):
                proxy.close(bind)
            say(type="stopped")
            return


if __name__ == "__main__":
    main()
