#!/usr/bin/env python3
"""Apache httpd as a meshproof adapter: one httpd per proxy of the plan, configured as an operator would configure it.

httpd.conf in this folder is the part that is the same for every proxy. A plan adds a `VirtualHost` per domain, a `ProxyPassMatch` per
route, and a `Proxy` section per cluster. A new configuration comes into force by a graceful restart.

What httpd 2.4 cannot do: mod_proxy sends the Host of the request as the server name (SNI) or the host of the URL to which it connects,
and it compares the certificate with the name that it sends. No directive sets another name. So this adapter is a sidecar only: on
the hop to an egress gateway, and at an ingress gateway that replaces the Host, the names differ. It passes on no TLS of an application."""
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time

# Keeps Python from writing __pycache__ into the source folder.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contract
from contract import Rejected, Unsupported

TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "httpd.conf")
FEATURES = ["sidecar", "mutual-origination", "registry-only", "reconfigure-without-restart", "access-log"]

# Where the modules of Debian's package are.
MODULES = os.environ.get("APACHE_MODULES", "/usr/lib/apache2/modules")
# The longest wait for log lines of requests that have ended.
SETTLED = 2.0


def word(text):
    """Quotes text as one argument. httpd replaces `${NAME}` and `%{NAME}` in some of them."""
    if any(ord(c) < 32 for c in text) or "${" in text or "%{" in text:
        raise Rejected("httpd's configuration cannot contain %r" % text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def value(text):
    """Quotes the value of a header, in which mod_headers expands what begins with a percent sign."""
    return word(text.replace("%", "%%"))


def without_port(domain):
    """A domain without its port; an IPv6 address is in brackets, as in a Host header."""
    if domain.count(":") > 1 and "[" not in domain:
        return "[%s]" % domain
    return re.sub(r":(\d+|\*)\Z", "", domain)


def pattern(match):
    """A route's condition on the path as a regular expression."""
    if match == "any":
        return "^"
    (kind, text), = match.items()
    return {"prefix": "^%s", "exact": r"^%s\z", "regex": r"^(?:%s)\z"}[kind] % (text if kind == "regex" else re.escape(text))


def unescaped(line):
    """A line of the log as JSON: httpd writes some characters as `\\xHH` or `\\v`, which JSON does not know."""
    def one(found):
        if found[1]:
            return "\\u00" + found[1]
        return {"\\v": "\\u000b", "\\a": "\\u0007"}.get(found[0], found[0])
    return re.sub(r"\\(?:x([0-9a-fA-F]{2})|.)", one, line)


class Configuration:
    """The httpd configuration of one proxy of a plan."""

    def __init__(self, proxy, message, folder):
        self.proxy, self.message, self.folder = proxy, message, folder
        self.clusters = {c["name"]: c for c in proxy["clusters"]}
        self.credentials = message["credentials"].get(proxy["name"], [])
        self.blocks, self.binds = [], set()
        for listener in proxy["listeners"]:
            self.listener(listener)

    def text(self):
        return "\n".join(self.blocks)

    def listener(self, listener):
        chains = [c for c in listener["chains"] if "http" in c["action"] and not c["tls"] and c["matches"]["transport"] != "tls"]
        if not chains:
            return
        self.blocks.append("Listen %s" % listener["bind"])
        self.binds.add(listener["bind"])
        hosts = {}
        for host in contract.by_authority(chains[0]["action"]["http"]["virtual_hosts"]):
            for domain in host["domains"]:
                hosts.setdefault(without_port(domain), host)
        # Where an application's own destination counts, each destination is a domain.
        for domain in [d for d in hosts if "*" in d]:
            for name in self.destinations(listener, hosts[domain]):
                if domain == "*" or name.endswith(domain[1:]):
                    hosts.setdefault(name, hosts[domain])
        # httpd takes the first one for a Host that no other one has.
        first = hosts.pop("*", {"routes": []})
        self.virtual_host(listener, "*", first)
        for domain in sorted(hosts, key=contract.domain_rank, reverse=True):
            self.virtual_host(listener, domain, hosts[domain])

    def destinations(self, listener, host):
        for route in host["routes"]:
            for target in route["action"].get("forward", {}).get("clusters", []):
                found = contract.cluster_of(self.clusters, target["cluster"])["discovery"]
                for destination in found.get("original-destination", []) if isinstance(found, dict) else []:
                    if destination["port"] == listener["port"]:
                        yield without_port(destination["host"])

    def virtual_host(self, listener, domain, host):
        self.balancers, self.tls = [], {}
        # A ServerName is neither a pattern nor an IPv6 address.
        lines = ["ServerName %s" % ("any.invalid" if re.search(r"[*\[]", domain) else word(domain))]
        lines += ["ServerAlias %s" % word(domain)] if domain != "*" else []
        lines += ["CustomLog access.log istio", "RewriteEngine On", "SSLProxyEngine On", "AllowEncodedSlashes NoDecode"]
        for number, route in enumerate(host["routes"]):
            lines += self.route(listener, domain, number, route)
        lines += ['RewriteRule "^" "-" [R=404,L]']
        sections = ["<Proxy %s>\n%s</Proxy>" % (word(url), "".join("    %s\n" % line for line in made)) for url, made in self.tls.items()]
        self.blocks.append("<VirtualHost %s>\n%s\n</VirtualHost>" % (listener["bind"], "\n".join(self.balancers + sections + lines)))

    def route(self, listener, domain, number, route):
        if route["matches"]["headers"] or route["matches"]["query"]:
            raise Rejected("this adapter does not support conditions on headers or queries")
        path = word(pattern(route["matches"]["path"]))
        name = re.sub(r"[^\w.:|/-]", "_", route["name"] or "-")
        action = route["action"]
        if "direct-response" in action:
            direct = action["direct-response"]
            body = ["ErrorDocument %d %s" % (direct["status"], word(direct["body"]))] if direct["body"] else []
            return body + ['RewriteRule %s "-" [R=%d,L,E=route:%s]' % (path, direct["status"], name)]
        if "redirect" in action:
            raise Rejected("this adapter does not support redirects")
        return self.forward(listener, domain, "%s-%d" % (len(self.blocks), number), path, name, action["forward"])

    def forward(self, listener, domain, label, path, name, forward):
        if len(forward["clusters"]) != 1:
            raise Rejected("this adapter does not support weighted destinations")
        if forward["path_rewrite"]:
            raise Rejected("this adapter does not support path rewrites")
        cluster = contract.cluster_of(self.clusters, forward["clusters"][0]["cluster"])
        noted = "E=route:%s,E=cluster:%s" % (name, re.sub(r"[^\w.:|/-]", "_", cluster["name"]))
        unavailable = ['RewriteRule %s "-" [R=503,L,%s]' % (path, noted)]
        found = cluster["discovery"]
        if found == "nowhere":
            return unavailable
        if "endpoints" in found:
            addresses = found["endpoints"]
        else:
            addresses = [d["address"] for d in found["original-destination"]
                         if d["port"] == listener["port"] and without_port(d["host"]) == domain][:1]
        try:
            tls = self.origination(cluster, domain, forward["host_rewrite"])
        except Unsupported:
            return unavailable
        if tls is None or not addresses:
            return unavailable
        scheme = "https" if cluster["tls"] else "http"
        options = "retry=0 connectiontimeout=10 flushpackets=on"
        if forward["timeout_ms"]:
            options += " timeout=%d" % -(-forward["timeout_ms"] // 1000)
        for address in addresses:
            url = "%s://%s" % (scheme, address)
            if cluster["tls"] and self.tls.setdefault(url, tls) != tls:
                raise Rejected("httpd has one TLS configuration per address and domain: %s, %s" % (address, domain))
        if len(addresses) == 1:
            target, upstream = "%s://%s" % (scheme, addresses[0]), addresses[0]
        else:
            target, upstream = "balancer://b%s" % label, "%{BALANCER_WORKER_NAME}"
            members = "".join("    BalancerMember %s://%s %s\n" % (scheme, a, options) for a in addresses)
            self.balancers.append("<Proxy %s>\n%s</Proxy>" % (target, members))
            options = ""
        # mod_rewrite runs first and ends at the route that matches. The first ProxyPassMatch that matches is that of the same route.
        lines = ["ProxyPassMatch %s %s nocanon %s" % (path, target, options),
                 'RewriteRule %s "-" [L,%s,E=number:%s,E=upstream:%s]' % (path, noted, label, upstream)]
        chosen = '"expr=%%{ENV:number} == \'%s\'"' % label
        request, response = forward["request_headers"], forward["response_headers"]
        if forward["host_rewrite"]:
            lines.append("RequestHeader set Host %s %s" % (value(forward["host_rewrite"]), chosen))
        for kind, headers in (("RequestHeader", request), ("Header always", response), ("Header", response)):
            lines += ["%s unset %s %s" % (kind, word(n), chosen) for n in headers["remove"]]
            lines += ["%s set %s %s %s" % (kind, word(n), value(v), chosen) for n, v in headers["set"] if kind != "Header always"]
            lines += ["%s add %s %s %s" % (kind, word(n), value(v), chosen) for n, v in headers["add"] if kind != "Header always"]
        return lines

    def origination(self, cluster, domain, authority):
        """The directives for TLS to a cluster: none for plain text, None while a credential is missing."""
        tls = cluster["tls"]
        if tls is None:
            return []
        if "mesh-mutual" in tls:
            raise Rejected("httpd cannot send a server name other than the Host, as the hop between proxies needs it")
        origin = contract.Origin(tls["originate"], self.credentials, self.message["system_roots"])
        if origin.missing:
            return None
        sent = domain if "*" not in domain else None
        wanted = (authority or sent) if origin.sni_from_host else origin.sni
        if wanted != sent or origin.needs_other_names():
            raise Unsupported("san-validation")
        if not origin.verified:
            lines = ["SSLProxyVerify none", "SSLProxyCheckPeerName off", "SSLProxyCheckPeerExpire off"]
        else:
            lines = ["SSLProxyVerify require", "SSLProxyVerifyDepth 5", "SSLProxyCACertificateFile %s" % word(origin.roots),
                     "SSLProxyCheckPeerName %s" % ("off" if origin.names == "chain-only" else "on")]
            if origin.crl:
                lines += ["SSLProxyCARevocationFile %s" % word(origin.crl), "SSLProxyCARevocationCheck chain no_crl_for_cert_ok"]
        if origin.certificate:
            # One file with both. The certificates behind the first one are in a file of their own.
            chain = contract.read(origin.certificate).split("-----END CERTIFICATE-----\n")
            leaf, others = chain[0] + "-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\n".join(chain[1:])
            base = os.path.join(self.folder, re.sub(r"\W", "-", origin.certificate)[-120:])
            pair = contract.private(base + "-pair.pem", leaf + contract.read(origin.key))
            lines.append("SSLProxyMachineCertificateFile %s" % word(pair))
            if others.strip():
                lines.append("SSLProxyMachineCertificateChainFile %s" % word(contract.private(base + "-chain.pem", others)))
        first, last = origin.min_version or "tls12", origin.max_version or "tls13"
        names = [n for v, n in (("tls12", "TLSv1.2"), ("tls13", "TLSv1.3")) if first <= v <= last]
        # By default httpd also offers TLS 1.0 and 1.1.
        return lines + ["SSLProxyProtocol -all %s" % " ".join("+" + n for n in names)]


class Httpd(contract.LoggedProcess):
    """The httpd of one proxy of the plan."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.worker = self.text = None
        self.binds = set()
        self.revision = 0
        os.makedirs(folder, 0o700, exist_ok=True)
        self.errors = open(os.path.join(folder, "stderr"), "ab")
        self.log = open(os.path.join(folder, "access.log"), "a+b")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.status = free.getsockname()

    def apply(self, configuration):
        text = configuration.text()
        if text == self.text and self.process:
            return
        # A graceful restart with an address that is in use is the end of httpd.
        for bind in configuration.binds - self.binds:
            address, _, port = bind.rpartition(":")
            try:
                socket.create_server((address.strip("[]"), int(port)), family=socket.AF_INET6 if "[" in address else socket.AF_INET).close()
            except OSError as e:
                raise Rejected("%s: %s" % (bind, e))
        self.revision += 1
        # httpd refuses to serve as root.
        user = "User #65534\nGroup #65534" if os.geteuid() == 0 else ""
        filled = contract.read(TEMPLATE)
        for name, with_ in (("user", user), ("folder", self.folder), ("modules", MODULES), ("revision", str(self.revision)),
                            ("status", "%s:%d" % self.status), ("sections", text)):
            filled = filled.replace("@%s@" % name, with_)
        next_one = contract.private(os.path.join(self.folder, "next.conf"), filled)
        environment = dict(os.environ, TZ="UTC")
        checked = subprocess.run(["apache2", "-t", "-f", next_one], capture_output=True, text=True, env=environment)
        if checked.returncode:
            raise Rejected(checked.stderr)
        path = os.path.join(self.folder, "httpd.conf")
        os.replace(next_one, path)
        before = os.path.getsize(self.errors.name)
        if self.process is None:
            self.process = subprocess.Popen(["apache2", "-D", "FOREGROUND", "-f", path], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=self.errors, env=environment)
        else:
            self.process.send_signal(signal.SIGUSR1)
            # The earlier process closes idle connections when it accepts no more.
            contract.until(lambda: self.process.poll() is not None or self.has_ended(), "the earlier httpd accepts no more connections")
        contract.until(lambda: self.process.poll() is not None or self.answers(), "httpd answers on its status port")
        if self.process.poll() is not None:
            self.process = None
            raise Rejected(contract.read(self.errors.name)[before:][-2000:])
        self.text, self.binds = text, configuration.binds

    def ask(self):
        self.worker.request("GET", "/?auto")
        answer = self.worker.getresponse()
        return answer.getheader("Revision"), answer.read().decode()

    def answers(self):
        """Whether the current revision answers. Keeps the connection to it."""
        try:
            self.worker = http.client.HTTPConnection(*self.status, timeout=10)
            return self.ask()[0] == str(self.revision)
        except (OSError, http.client.HTTPException):
            return False

    def has_ended(self):
        try:
            sock = self.worker.sock
            return sock is None or bool(select.select([sock], [], [], 0)[0]) and not sock.recv(1)
        except OSError:
            return True

    def busy(self):
        """How many requests are being read, answered or logged, apart from the adapter's own."""
        try:
            _, status = self.ask()
        except (OSError, http.client.HTTPException):
            self.answers()
            _, status = self.ask()
        facts = dict(line.split(": ", 1) for line in status.splitlines() if ": " in line)
        threads = sum(facts.get("Scoreboard", "").count(state) for state in "RWLCD")
        return threads - 1 + int(facts.get("ConnsAsyncWriting", 0))

    def settle(self):
        if self.process is None:
            return
        contract.alive(self.process, "httpd", self.errors.name)
        # A thread logs a request before it is idle again.
        deadline = time.monotonic() + SETTLED
        while self.busy() and time.monotonic() < deadline:
            time.sleep(0.005)
        self.read()

    @staticmethod
    def logged(line):
        """A line of the log in Istio's format."""
        line = json.loads(unescaped(line))
        method, _, rest = line.pop("request").partition(" ")
        path, _, protocol = rest.rpartition(" ")
        upstream = line["upstream_host"].rpartition("/")[2]
        return json.dumps(dict(line, method=method, path=path, protocol=protocol, upstream_host=upstream))


class Apache(contract.PerProxy):
    program, name, features, process = "apache2", "Apache httpd", FEATURES, Httpd

    def version(self):
        said = subprocess.run(["apache2", "-v"], capture_output=True, text=True).stdout
        found = re.search(r"Apache/(\S+)", said)
        return found[1] if found else "unknown"

    def configuration(self, proxy, message):
        folder = self.folder_of(proxy["name"])
        os.makedirs(folder, 0o700, exist_ok=True)
        return Configuration(proxy, message, folder)


contract.serve(Apache())
