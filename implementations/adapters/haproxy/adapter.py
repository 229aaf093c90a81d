#!/usr/bin/env python3
"""HAProxy as a meshproof adapter: one HAProxy process per proxy of the plan, configured as an operator would configure it.

haproxy.cfg in this folder is the part that is the same for every proxy. A plan adds frontends (where to listen), their rules
(which virtual host, which route), and a backend per route (where requests go, and how TLS is originated)."""
import os
import re
import socket
import subprocess
import sys

# Keeps Python from writing __pycache__ into the source folder.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contract
from contract import Rejected, Unsupported

# An address in one of HAProxy's own fields, whose names a peer cannot choose.
IPV6_ADDRESS = re.compile(r'_(host|address)":"([0-9a-f]*:[0-9a-f:]*):(\d+)"')
TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "haproxy.cfg")
FEATURES = ["sidecar", "egress-gateway", "ingress-gateway", "mesh-mtls", "mutual-origination", "tls-passthrough",
            "registry-only", "reconfigure-without-restart", "http2", "web-socket", "access-log", "upstream-local-address"]


def word(text):
    """Quotes text as one argument."""
    if "\n" in text or "\r" in text or "\0" in text:
        raise Rejected("HAProxy's configuration cannot contain the control character in %r" % text)
    return "'" + text.replace("'", "'\\''") + "'"


def formatted(text):
    """Quotes text as one argument in which HAProxy would expand log-format expressions."""
    return word(text.replace("%", "%%"))


def matches(fetch, match):
    """An ACL condition for one of the plan's string matches."""
    if match == "present":
        return "{ %s -m found }" % fetch
    (kind, text), = match.items()
    how = {"exact": "str", "prefix": "beg", "regex": "reg"}[kind]
    return "{ %s -m %s %s }" % (fetch, how, word("^(?:%s)$" % text if kind == "regex" else text))


def name_condition(fetch, names):
    exact = [n for n in names if not n.startswith("*.")]
    suffixes = [n[1:] for n in names if n.startswith("*.")]
    return ("%s -m str -i %s" % (fetch, " ".join(map(word, exact))) if exact else None,
            "%s -m end -i %s" % (fetch, " ".join(map(word, suffixes))) if suffixes else None)


class Configuration:
    """The HAProxy configuration for one proxy of a plan."""

    def __init__(self, proxy, message, folder, hop, hop_names):
        self.inner = os.path.basename(os.path.dirname(folder))
        self.proxy, self.message, self.folder, self.hop, self.hop_names = proxy, message, folder, hop, hop_names
        self.clusters = {c["name"]: c for c in proxy["clusters"]}
        self.credentials = message["credentials"].get(proxy["name"], [])
        self.frontends, self.backends, self.count = [], [], 0
        for listener in proxy["listeners"]:
            self.listener(listener)

    def text(self):
        return "\n".join(self.frontends + self.backends)

    def number(self):
        self.count += 1
        return self.count

    def listener(self, listener):
        chains = listener["chains"]
        if len(chains) == 1 and "http" in chains[0]["action"] and not (
                chains[0]["matches"]["transport"] == "plain" or (chains[0]["matches"]["transport"] == "tls" and not chains[0]["tls"])):
            self.requests(listener, chains[0], listener["bind"], "")
            return
        # Several kinds of traffic share the address. The first bytes show which kind a connection carries.
        lines = ["frontend connections-%d from connections" % self.number(), "    bind %s" % listener["bind"],
                 "    tcp-request inspect-delay 5s",
                 "    tcp-request content set-var(txn.sni) req.ssl_sni if { req.ssl_sni -m found }",
                 "    tcp-request content accept if { req.ssl_hello_type 1 }",
                 "    tcp-request content accept if { req.len gt 0 } !{ req.payload(0,1),hex 16 }"]
        # HAProxy tries rules of the same kind in order, so the order of the chains is kept.
        for chain in chains:
            transport, names = chain["matches"]["transport"], chain["matches"]["server_names"]
            kind = {"tls": "{ req.ssl_hello_type 1 }", "plain": "!{ req.ssl_hello_type 1 }", "any": ""}[transport]
            conditions = [kind + " { " + c + " }" for c in name_condition("req.ssl_sni", names) if c] if names else [kind]
            if "http" in chain["action"]:
                # A separate frontend handles and logs requests; this one must not log them. Its socket's name is the same in
                # every revision, so the new process takes the connections that the old one has accepted and not yet passed
                # on.
                inner = "unix@%s" % os.path.join(self.inner, "i%s-%d" % (listener["port"], chains.index(chain)))
                self.requests(listener, chain, inner, " accept-proxy")
                backend = "to-requests-%d" % self.number()
                self.backends.append("backend %s from connections\n    server inner %s send-proxy-v2\n" % (backend, inner))
                targets = [(backend, "")]
                lines.insert(4, "    tcp-request content set-log-level silent if %s" % conditions[0] if kind else
                             "    tcp-request content set-log-level silent")
            else:
                targets = self.connection_targets(listener, chain["action"]["tcp"]["cluster"])
            for condition in conditions:
                for backend, further in targets:
                    lines.append("    use_backend %s if %s %s" % (backend, condition, further) if condition or further
                                 else "    default_backend %s" % backend)
        self.frontends.append("\n".join(lines) + "\n")

    def connection_targets(self, listener, name):
        """The backends that pass connections on to a cluster, each with a further condition. Without one, HAProxy closes the
        connection."""
        cluster = contract.cluster_of(self.clusters, name)
        found, options = cluster["discovery"], self.server_options(cluster)
        if found == "nowhere" or options is None:
            return []
        if "endpoints" in found:
            addresses = [(found["endpoints"], "")]
        else:
            addresses = [([d["address"]], "{ req.ssl_sni -i %s }" % word(d["host"]))
                         for d in found["original-destination"] if d["port"] == listener["port"]]
        targets = []
        for endpoints, condition in addresses:
            backend = "pass-%d" % self.number()
            lines = ["backend %s from connections" % backend, "    tcp-request content set-var(txn.cluster) str(%s)" % word(name)]
            lines += ["    server s%d %s%s" % (i, address, options) for i, address in enumerate(endpoints)]
            self.backends.append("\n".join(lines) + "\n")
            targets.append((backend, condition))
        return targets

    def requests(self, listener, chain, bind, accept):
        """Adds a frontend that routes requests."""
        number = self.number()
        tls = ""
        if chain["tls"]:
            certificate, key = self.hop.certificate(self.proxy["name"], self.hop_names.get(listener["bind"], ()))
            tls = " ssl crt %s ca-file %s verify required alpn h2,http/1.1" % (self.bundle(certificate, key), self.hop.roots)
        lines = ["frontend requests-%d from requests" % number, "    bind %s%s%s" % (bind, accept, tls)]
        names = chain["matches"]["server_names"]
        if chain["tls"]:
            lines.append("    http-request set-var(txn.sni) ssl_fc_sni")
            if names:
                allowed = " ".join("!{ %s }" % c for c in name_condition("ssl_fc_sni", names) if c)
                lines.append("    tcp-request content reject if %s" % allowed)
        lines += ["    http-request set-var(txn.path) pathq", "    http-request set-var(txn.version) req.ver", "    http-request set-var(txn.agent) req.hdr(user-agent)",
                  "    http-request set-var(txn.authority) req.hdr(host)",
                  "    http-request set-var(txn.host) req.hdr(host),lower",
                  "    http-request set-var(txn.name) req.hdr(host),host_only,lower"]
        hosts = chain["action"]["http"]["virtual_hosts"]
        # A later rule overrides an earlier one, so domains of the lowest precedence come first.
        ranked = sorted(((contract.domain_rank(d), d, i) for i, h in enumerate(hosts) for d in h["domains"]))
        for _, domain, i in ranked:
            condition = "" if domain == "*" else (
                " if { var(txn.host) -m end %s }" % word(domain[1:]) if domain.startswith("*.") else
                " if { var(txn.host) -m str %s }" % word(domain))
            lines.append("    http-request set-var(txn.vhost) int(%d)%s" % (i, condition))
        uses = []
        for i, host in enumerate(hosts):
            for j, route in enumerate(host["routes"]):
                mark = "r%d-%d" % (i, j)
                match = route["matches"]
                conditions = [] if match["path"] == "any" else [matches("path", match["path"])]
                conditions += [matches({":method": "method", ":authority": "req.hdr(host)"}.get(n, "req.hdr(%s)" % n), m)
                               for n, m in match["headers"].items()]
                conditions += [matches("url_param(%s)" % n, m) for n, m in match["query"].items()]
                lines.append("    http-request set-var(txn.route) str(%s) if !{ var(txn.route) -m found } "
                             "{ var(txn.vhost) -m int %d } %s" % (mark, i, " ".join(conditions)))
                for backend, further in self.route_targets(listener, route):
                    uses.append("    use_backend %s if { var(txn.route) -m str %s } %s" % (backend, mark, further))
        lines.append("    http-request return status 404 if !{ var(txn.route) -m found }")
        self.frontends.append("\n".join(lines + uses) + "\n")

    def route_targets(self, listener, route):
        """The backends for a route, each with a further condition."""
        label = ["    http-request set-var(txn.route_name) str(%s)" % word(route["name"] or "-")]
        action = route["action"]
        if "direct-response" in action:
            direct = action["direct-response"]
            body = " content-type text/plain string %s" % word(direct["body"]) if direct["body"] else ""
            return [(self.backend(label + ["    http-request return status %d%s" % (direct["status"], body)]), "")]
        if "redirect" in action:
            raise Rejected("this adapter does not support redirects")
        forward = action["forward"]
        if len(forward["clusters"]) != 1:
            raise Rejected("this adapter does not support weighted destinations")
        cluster = contract.cluster_of(self.clusters, forward["clusters"][0]["cluster"])
        rules = label + ["    http-request set-var(txn.cluster) str(%s)" % word(cluster["name"])]
        if forward["timeout_ms"]:
            rules.append("    timeout server %dms" % forward["timeout_ms"])
        rules += self.header_rules("request", forward["request_headers"])
        if forward["path_rewrite"]:
            raise Rejected("this adapter does not support path rewrites")
        if forward["host_rewrite"]:
            rules.append("    http-request set-header Host %s" % formatted(forward["host_rewrite"]))
            rules.append("    http-request set-var(txn.authority) req.hdr(host)")
        rules += self.header_rules("response", forward["response_headers"])
        unavailable = (self.backend(rules + ["    http-request return status 503"]), "")
        found = cluster["discovery"]
        if found == "nowhere":
            return [unavailable]
        if "endpoints" in found:
            return [(self.backend(rules + self.servers(cluster, found["endpoints"])), "") if found["endpoints"] else unavailable]
        return [(self.backend(rules + self.servers(cluster, [d["address"]])), "{ var(txn.name) -m str %s }" % word(d["host"]))
                for d in found["original-destination"] if d["port"] == listener["port"]] + [unavailable]

    def backend(self, lines):
        name = "to-%d" % self.number()
        self.backends.append("\n".join(["backend %s from requests" % name] + lines) + "\n")
        return name

    def header_rules(self, direction, changes):
        # X-Forwarded-For and similar headers stay as they are: HAProxy adds none unless configured to.
        return (["    http-%s del-header %s" % (direction, n) for n in changes["remove"]] +
                ["    http-%s set-header %s %s" % (direction, n, formatted(v)) for n, v in changes["set"]] +
                ["    http-%s add-header %s %s" % (direction, n, formatted(v)) for n, v in changes["add"]])

    def servers(self, cluster, addresses):
        options = self.server_options(cluster)
        if options is None:
            return ["    http-request return status 503"]
        return ["    server s%d %s%s" % (i, address, options) for i, address in enumerate(addresses)]

    def server_options(self, cluster):
        """The options for connections to a server. None while a credential is missing."""
        http2 = cluster["protocol"] == "http2"
        tls = cluster["tls"]
        if tls is None:
            return " proto h2" if http2 else ""
        alpn = " alpn h2" if http2 else " alpn http/1.1"
        if "mesh-mutual" in tls:
            certificate, key = self.hop.certificate(self.proxy["name"], ())
            return " ssl verify required ca-file %s crt %s sni %s%s" % (
                self.hop.roots, self.bundle(certificate, key), word("str(%s)" % tls["mesh-mutual"]["sni"]), alpn)
        origin = contract.Origin(tls["originate"], self.credentials, self.message["system_roots"])
        if origin.missing:
            return None
        if origin.needs_other_names():
            # "If SNI is not used, [verifyhost] is the only way to enable hostname verification": with SNI, HAProxy compares the
            # certificate with the server name that it sends, and with no other name (Configuration Manual, verifyhost).
            raise Unsupported("san-validation")
        # Without a name in the DestinationRule the certificate and the server name follow the request's own host.
        options = " ssl"
        if origin.sni or origin.sni_from_host:
            options += " sni %s" % word("str(%s)" % origin.sni if origin.sni else "req.hdr(host),host_only")
        elif origin.verified and origin.names != "chain-only":
            options += " verifyhost %s" % word(origin.names["one-of"][0])
        options += " verify required ca-file %s" % origin.roots if origin.verified else " verify none"
        if origin.crl and origin.verified:
            options += " crl-file %s" % origin.crl
        if origin.certificate:
            options += " crt %s" % self.bundle(origin.certificate, origin.key)
        versions = {"tls12": "TLSv1.2", "tls13": "TLSv1.3"}
        if origin.min_version:
            options += " ssl-min-ver %s" % versions[origin.min_version]
        if origin.max_version:
            options += " ssl-max-ver %s" % versions[origin.max_version]
        if http2:
            options += " alpn h2,http/1.1"
        elif origin.alpn:
            options += " alpn %s" % ",".join(origin.alpn)
        return options

    def bundle(self, certificate, key):
        """Writes certificate and key to one file, as HAProxy expects."""
        path = os.path.join(self.folder, "bundle-%d.pem" % self.number())
        return contract.private(path, contract.read(certificate) + contract.read(key))


class HAProxyProcess:
    """The HAProxy process of one proxy of the plan, and earlier ones that still finish their requests."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.processes, self.admin, self.revision, self.text = [], None, 0, None
        os.makedirs(folder, 0o700, exist_ok=True)

    def apply(self, text):
        if text == self.text:
            return
        self.revision += 1
        admin = os.path.join(os.path.basename(self.folder), "a%d" % self.revision)
        configuration = contract.private(
            os.path.join(self.folder, "haproxy-%d.cfg" % self.revision),
            contract.read(TEMPLATE).replace("@admin@", admin).replace("@sections@", text))
        checked = subprocess.run(["haproxy", "-c", "-f", configuration], capture_output=True, text=True)
        if checked.returncode:
            raise Rejected(checked.stdout + checked.stderr)
        command = ["haproxy", "-db", "-f", configuration]
        if self.processes:
            # The new process takes over the listening sockets and asks the old one to finish its requests and exit.
            command += ["-x", self.admin, "-sf", str(self.processes[-1].pid)]
        errors = open(os.path.join(self.folder, "stderr-%d" % self.revision), "wb")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        errors.close()
        os.set_blocking(process.stdout.fileno(), False)
        process.unread, process.revision = b"", self.revision
        contract.until(lambda: process.poll() is not None or ask(admin, "show info") is not None, "HAProxy answers on its admin socket")
        if process.poll() is not None:
            # The old process continues: the new one would have asked it to finish only after it listens.
            process.stdout.close()
            raise Rejected(contract.read(errors.name))
        before = self.admin
        self.processes.append(process)
        self.admin, self.text = admin, text
        if before:
            # When it is asked to finish, the old process closes its admin socket together with its listeners.
            contract.until(lambda: ask(before, "show info") is None, "the old HAProxy has closed its listeners")

    def read(self, process):
        """Reads what a process has logged. Returns False once the process has closed the pipe."""
        while True:
            try:
                chunk = os.read(process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            *lines, process.unread = (process.unread + chunk).split(b"\n")
            for line in lines:
                # HAProxy writes an IPv6 address without its brackets.
                text = IPV6_ADDRESS.sub(r'_\1":"[\2]:\3"', line.decode("utf-8", "replace"))
                contract.log(self.name, text)

    def settle(self):
        """Waits until no request is in progress, then reads the log. It does not wait for connections that stay open."""
        contract.alive(self.processes[-1], "HAProxy", os.path.join(self.folder, "stderr-%d" % self.processes[-1].revision))
        try:
            contract.until(lambda: not busy(self.admin), "all requests are complete", 2.0)
        except Rejected:
            pass
        for process in list(self.processes):
            if not self.read(process) and process.poll() is not None and process is not self.processes[-1]:
                if process.returncode:
                    # The suite keeps standard error as evidence, so the report shows this.
                    print("%s: the HAProxy of revision %d exited with status %d after it was asked to finish"
                          % (self.name, process.revision, process.returncode), file=sys.stderr, flush=True)
                process.stdout.close()
                self.processes.remove(process)

    def stop(self):
        for process in self.processes:
            contract.end(process)
            self.read(process)
            process.stdout.close()
        self.processes = []


def ask(admin, question):
    """HAProxy's answer on its admin socket. None if no process listens there."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(admin)
            connection.sendall(question.encode() + b"\n")
            answer = b""
            while chunk := connection.recv(1 << 16):
                answer += chunk
            return answer.decode()
    except OSError:
        return None


def busy(admin):
    """Whether a request is in progress, or a connection that its client has already closed (which has no read timeout)."""
    for line in (ask(admin, "show sess") or "").splitlines():
        if " fe=requests-" in line or (" fe=connections-" in line and re.search(r" rq\[[^]]*rx=,", line)):
            return True
    return False


class HAProxy(contract.PerProxy):
    program, name, features, process, letters = "haproxy", "HAProxy", FEATURES, HAProxyProcess, 12

    def version(self):
        first = subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout.splitlines()[0]
        return first.split()[2]

    def configuration(self, proxy, message):
        folder = os.path.join(self.folder_of(proxy["name"]), str(message["revision"]))
        os.makedirs(folder, 0o700, exist_ok=True)
        return Configuration(proxy, message, folder, self.hop, self.hop_names).text()

    def streams(self):
        return [(process.stdout, lambda proxy=proxy, process=process: proxy.read(process))
                for proxy in self.proxies.values() for process in proxy.processes]


contract.serve(HAProxy())
