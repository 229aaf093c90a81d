#!/usr/bin/env python3
"""nginx as a meshproof adapter: one nginx per proxy of the plan, configured as an operator would configure it.

nginx.conf in this folder is the part that is the same for every proxy. A plan adds `server` blocks (listeners and virtual
hosts), a `location` per route, and an `upstream` per cluster. Passing on an application's own TLS would need the stream
module, which Debian's nginx package does not contain. So this adapter does not do it, and does not declare the feature."""
import getpass
import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys

# Keeps Python from writing __pycache__ into the source folder.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contract
from contract import Rejected, Unsupported

TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nginx.conf")
FEATURES = ["sidecar", "egress-gateway", "ingress-gateway", "mesh-mtls", "mutual-origination", "registry-only",
            "reconfigure-without-restart", "web-socket", "access-log"]


def word(text):
    """Quotes text as one argument. nginx cannot escape a dollar sign, which begins a variable."""
    if "$" in text or any(ord(c) < 32 for c in text):
        raise Rejected("nginx's configuration cannot contain %r" % text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def pattern(match):
    """A route's condition on the path as a regular expression: nginx tries only those in the order of the file."""
    if match == "any":
        return "^"
    (kind, text), = match.items()
    return {"prefix": "^%s", "exact": r"^%s\z", "regex": r"^(?:%s)\z"}[kind] % (text if kind == "regex" else re.escape(text))


def covering(domains, name):
    """The domain to which nginx gives this name: the name itself, or the longest wildcard. None if there is none."""
    found = [d for d in domains if d == name or d.startswith("*.") and name.endswith(d[1:])]
    return name if name in found else max(found, key=len, default=None)


class Configuration:
    """The nginx configuration for one proxy of a plan."""

    def __init__(self, proxy, message, hop, hop_names):
        self.proxy, self.message, self.hop, self.hop_names = proxy, message, hop, hop_names
        self.clusters = {c["name"]: c for c in proxy["clusters"]}
        self.credentials = message["credentials"].get(proxy["name"], [])
        self.blocks, self.upstreams, self.maps = [], {}, set()
        # The host for which routes are being written, if it is a single one.
        self.only_host = None
        for listener in proxy["listeners"]:
            self.listener(listener)

    def text(self):
        return "\n".join(self.blocks)

    def listener(self, listener):
        chains = [c for c in listener["chains"] if "http" in c["action"]]
        mesh = next((c for c in chains if c["tls"]), None)
        plain = next((c for c in chains if not c["tls"] and c["matches"]["transport"] != "tls"), None)
        if mesh:
            self.servers(listener, mesh, plain)
        elif plain:
            self.servers(listener, plain, None)

    def servers(self, listener, chain, plain):
        """Adds the `server` blocks of an address. `plain` is the chain for plain requests beside mesh TLS, or None."""
        hosts, tls, verified = list(contract.by_authority(chain["action"]["http"]["virtual_hosts"])), chain["tls"] is not None, ""
        listen = "    listen %s%s%%s;\n" % (listener["bind"], " ssl" if tls else "")
        common = "    set $cluster -;\n    set $route -;\n    set $authority $http_host;\n"
        names = chain["matches"]["server_names"]
        if tls:
            certificate, key = self.hop.certificate(self.proxy["name"], self.hop_names.get(listener["bind"], ()))
            common += "    ssl_certificate %s;\n    ssl_certificate_key %s;\n" % (certificate, key)
            verified = "    ssl_client_certificate %s;\n    ssl_verify_client on;\n" % self.hop.roots
            # By default nginx answers a client without a certificate or without TLS with 400. 444 closes the connection.
            common += "    error_page 495 496%s = @cut;\n    location @cut { return 444; }\n" % ("" if plain else " 497")
            if plain:
                # The only route of an application's own port, for clients outside the mesh. nginx comes here before it runs the
                # directives of the server's rewrite phase.
                route = plain["action"]["http"]["virtual_hosts"][0]["routes"][0]
                common += "    error_page 497 = @plain;\n    location @plain {\n        set $authority $http_host;\n%s    }\n" % self.route(listener, route)
            if names:
                # Refuses the handshake for a server name that is not configured.
                self.blocks.append("server {\n%s    ssl_reject_handshake on;\n}" % (listen % " default_server"))
                every = {d.rpartition(":")[0] or d for host in hosts for d in host["domains"]} - {"*"}
                sent = {n for n in names if not n.startswith("*")} | set(self.hop_names.get(listener["bind"], ()))
                of_domain = {name: covering(every, name) for name in sorted(sent)}
                others = [name for name, domain in of_domain.items() if domain is None]
                if others and not any("*" in host["domains"] for host in hosts):
                    self.blocks.append("server {\n%s    server_name %s;\n%s%s    location / { return 404; }\n}" % (
                        listen % "", " ".join(map(word, others)), verified, common))
        rest = False
        for host in hosts:
            domains = sorted({d.rpartition(":")[0] or d for d in host["domains"]})
            default = "*" in domains
            rest = rest or default
            mine = " default_server" if default and not (tls and names) else ""
            served = [d for d in domains if d != "*"] or ([*names] if default and names else ["_"])
            alone = {d.rstrip(".") for d in domains}
            self.only_host = alone.pop() if len(alone) == 1 and "*" not in domains[0] else None
            routes = "".join("    location ~ %s {\n%s    }\n" % (word(pattern(r["matches"]["path"])), self.route(listener, r))
                             for r in host["routes"] if self.simple(r))
            # With ssl_verify_client, nginx answers 421 for a Host that is not the server name of the connection, although the
            # mesh may use one server name for many hosts. So the client is verified in the `server` of its server name, and
            # the one of the Host only looks at the result.
            own, further = served, []
            if names and not default:
                own = [name for name, domain in of_domain.items() if domain in served]
                further = [d for d in served if d not in own]
            looked_at = "    if ($ssl_client_verify != SUCCESS) { return 444; }\n"
            for mine_too, part, condition in ((mine, own, verified), ("", further, looked_at)):
                if part:
                    self.blocks.append("server {\n%s    server_name %s;\n%s%s%s    location / { return 404; }\n}" % (
                        listen % mine_too, " ".join(map(word, part)), condition, common, routes))
        if not rest and not (tls and names):
            self.blocks.append("server {\n%s    server_name _;\n%s%s    location / { return 404; }\n}" % (
                listen % " default_server", verified, common))

    def simple(self, route):
        if route["matches"]["headers"] or route["matches"]["query"]:
            raise Rejected("this adapter does not support conditions on headers or queries")
        return True

    def route(self, listener, route):
        """The content of a route's location."""
        lines = ["set $route %s;" % word(route["name"] or "-")]
        action = route["action"]
        if "direct-response" in action:
            direct = action["direct-response"]
            lines.append("return %d%s;" % (direct["status"], " " + word(direct["body"]) if direct["body"] else ""))
        elif "redirect" in action:
            raise Rejected("this adapter does not support redirects")
        else:
            lines += self.forward(listener, action["forward"])
        return "".join("        %s\n" % line for line in lines)

    def forward(self, listener, forward):
        if len(forward["clusters"]) != 1:
            raise Rejected("this adapter does not support weighted destinations")
        if forward["path_rewrite"]:
            raise Rejected("this adapter does not support path rewrites")
        if forward["request_headers"]["add"]:
            raise Rejected("this adapter does not support adding a request header beside an existing one")
        cluster = contract.cluster_of(self.clusters, forward["clusters"][0]["cluster"])
        lines = ["set $cluster %s;" % word(cluster["name"])]
        if forward["host_rewrite"]:
            lines.append("set $authority %s;" % word(forward["host_rewrite"]))
        # A single proxy_set_header in a location disables all inherited ones.
        headers = [("Host", "$authority"), ("Connection", "$onward_connection"), ("Upgrade", "$http_upgrade")]
        headers += [(n, word(v)) for n, v in forward["request_headers"]["set"]]
        headers += [(n, '""') for n in forward["request_headers"]["remove"]]
        lines += ["proxy_set_header %s %s;" % header for header in headers]
        response = forward["response_headers"]
        lines += ["proxy_hide_header %s;" % n for n in response["remove"] + [n for n, _ in response["set"]]]
        lines += ["add_header %s %s always;" % (n, word(v)) for n, v in response["set"] + response["add"]]
        if forward["timeout_ms"]:
            lines.append("proxy_read_timeout %dms;" % forward["timeout_ms"])
        tls = self.origination(cluster, forward)
        found = cluster["discovery"]
        if tls is None or found == "nowhere" or found.get("endpoints") == []:
            return lines + ["return 503;"]
        scheme = "https" if cluster["tls"] else "http"
        if "endpoints" in found:
            return lines + tls + ["proxy_pass %s://%s;" % (scheme, self.upstream(cluster, forward["host_rewrite"]))]
        name = self.destinations(found["original-destination"], listener["port"])
        return lines + tls + ['if (%s = "") { return 503; }' % name, "proxy_pass %s://%s;" % (scheme, name)]

    def upstream(self, cluster, rewrite):
        origin = (cluster["tls"] or {}).get("originate")
        # nginx keeps connections by address alone. Where the server name follows the Host, each Host has its own ones, and there
        # are none if it can be any.
        name = (rewrite or self.only_host) if origin and "fixed" not in origin["sni"] else "-"
        key = (cluster["name"], name)
        if key not in self.upstreams:
            upstream = self.upstreams[key] = "cluster-%d" % len(self.upstreams)
            servers = "".join("    server %s max_fails=0;\n" % e for e in cluster["discovery"]["endpoints"])
            self.blocks.insert(0, "upstream %s {\n%s%s}" % (upstream, servers, "    keepalive 16;\n" if name else ""))
        return self.upstreams[key]

    def destinations(self, destinations, port):
        """The variable with the application's original destination."""
        if port not in self.maps:
            self.maps.add(port)
            rows = "".join("    %s %s;\n" % (word(d["host"]), d["address"]) for d in destinations if d["port"] == port)
            self.blocks.insert(0, 'map $host $destination_%d {\n    default "";\n%s}' % (port, rows))
        return "$destination_%d" % port

    def origination(self, cluster, forward):
        """The directives for TLS to a cluster. None while a credential is missing."""
        tls = cluster["tls"]
        if tls is None:
            return []
        if "mesh-mutual" in tls:
            certificate, key = self.hop.certificate(self.proxy["name"], ())
            return ["proxy_ssl_verify on;", "proxy_ssl_trusted_certificate %s;" % self.hop.roots,
                    "proxy_ssl_name %s;" % word(tls["mesh-mutual"]["sni"]),
                    "proxy_ssl_certificate %s;" % certificate, "proxy_ssl_certificate_key %s;" % key]
        origin = contract.Origin(tls["originate"], self.credentials, self.message["system_roots"])
        if origin.missing:
            return None
        if origin.needs_other_names():
            # proxy_ssl_name "allows overriding the server name used to verify the certificate of the proxied HTTPS server and
            # to be passed through SNI": one directive for both (nginx, ngx_http_proxy_module, proxy_ssl_name).
            raise Unsupported("san-validation")
        name = origin.sni or forward["host_rewrite"]
        lines = ["proxy_ssl_name %s;" % (word(name) if name else "$host")]
        if origin.verified:
            lines += ["proxy_ssl_verify on;", "proxy_ssl_trusted_certificate %s;" % origin.roots]
            if origin.crl:
                lines.append("proxy_ssl_crl %s;" % origin.crl)
        if origin.certificate:
            lines += ["proxy_ssl_certificate %s;" % origin.certificate, "proxy_ssl_certificate_key %s;" % origin.key]
        if origin.min_version or origin.max_version:
            first, last = origin.min_version or "tls12", origin.max_version or "tls13"
            versions = [v for v in ("tls12", "tls13") if first <= v <= last]
            lines.append("proxy_ssl_protocols %s;" % " ".join({"tls12": "TLSv1.2", "tls13": "TLSv1.3"}[v] for v in versions))
        return lines


class Status(http.client.HTTPConnection):
    """A connection to the status server of a worker process."""

    def __init__(self, path):
        super().__init__("status", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def ask(self):
        """The revision that the worker has in force."""
        self.request("GET", "/")
        return self.getresponse().read().decode()

    def has_ended(self):
        """Whether the worker accepts no more connections. It then closes its idle ones, such as this one."""
        try:
            return self.sock is None or bool(select.select([self.sock], [], [], 0)[0]) and not self.sock.recv(1)
        except ConnectionError:
            return True


class NginxProxy(contract.LoggedProcess):
    """The nginx of one proxy of the plan, with one worker process."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.status = os.path.join(os.path.basename(folder), "status")
        self.worker = self.text = None
        self.revision = 0
        os.makedirs(folder, 0o700, exist_ok=True)
        self.errors = open(os.path.join(folder, "stderr"), "wb")
        self.log = open(os.path.join(folder, "access.log"), "a+b")

    def apply(self, text):
        if text == self.text:
            return
        self.revision += 1
        user = "user %s;" % getpass.getuser() if os.geteuid() == 0 else ""
        filled = contract.read(TEMPLATE).replace("@user@", user).replace("@revision@", str(self.revision))
        filled = filled.replace("@status@", self.status).replace("@sections@", text)
        next_one = contract.private(os.path.join(self.folder, "next.conf"), filled)
        command = ["nginx", "-p", self.folder, "-e", "stderr", "-c"]
        checked = subprocess.run(command + [next_one, "-t"], capture_output=True, text=True)
        if checked.returncode:
            raise Rejected(checked.stderr)
        configuration = os.path.join(self.folder, "nginx.conf")
        os.replace(next_one, configuration)
        if self.process is None:
            self.process = subprocess.Popen(command + [configuration], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=self.errors)
            contract.until(lambda: self.process.poll() is not None or self.connects(), "nginx answers on its status socket")
            if self.process.poll() is not None:
                raise Rejected(contract.read(self.errors.name))
        else:
            before = os.path.getsize(self.errors.name)
            self.process.send_signal(signal.SIGHUP)
            # If a configuration cannot come into force (an address is in use), nginx writes why to stderr and keeps the old one.
            contract.until(lambda: self.worker.has_ended() or b"[emerg]" in self.written_since(before), "nginx has reloaded its configuration")
            if b"[emerg]" in self.written_since(before):
                raise Rejected(self.written_since(before).decode("utf-8", "replace"))
            contract.until(self.connects, "the new nginx answers")
        self.text = text

    def written_since(self, position):
        with open(self.errors.name, "rb") as errors:
            errors.seek(position)
            return errors.read()

    def connects(self):
        """Whether a worker with the current revision answers. Keeps the connection to it."""
        try:
            self.worker = Status(self.status)
            return self.worker.ask() == str(self.revision)
        except (OSError, http.client.HTTPException):
            return False

    def settle(self):
        contract.alive(self.process, "nginx", self.errors.name)
        # nginx logs a request in the same event-loop iteration in which it sends the end of the response. So the worker's
        # answer to this question comes after all log lines of earlier requests.
        try:
            self.worker.ask()
        except (OSError, http.client.HTTPException):
            self.connects()
        self.read()


class Nginx(contract.PerProxy):
    program, name, features, process = "nginx", "nginx", FEATURES, NginxProxy

    def version(self):
        return subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]

    def configuration(self, proxy, message):
        return Configuration(proxy, message, self.hop, self.hop_names).text()


contract.serve(Nginx())
