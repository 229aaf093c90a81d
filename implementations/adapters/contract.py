"""The adapter's side of the contract (docs/adapters.md) for the adapters in this folder: reading and answering messages, and
what their proxies have in common."""
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time


class Unsupported(Exception):
    """The plan needs a feature that the proxy lacks. The argument is the name of the feature."""


class Rejected(Exception):
    """The proxy refuses the configuration. The argument is its error message."""


def say(**message):
    print(json.dumps(message), flush=True)


def log(proxy, line):
    say(type="log", proxy=proxy, line=line)


def serve(implementation):
    """Answers the suite's messages until `stop` or the end of standard input.

    `implementation` has `name`, `version`, `features`, and `hello(folder)`, `apply(message)`, `settle()`, `stop()`. It may
    have `streams()`: pairs of a file object and the callback to run when it is readable."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if shutil.which(implementation.program) is None:
        sys.exit("%s is not installed" % implementation.program)
    try:
        pending = b""
        while True:
            wait_for_stdin(implementation)
            chunk = os.read(0, 1 << 16)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                if answer(implementation, json.loads(line)):
                    return
    finally:
        implementation.stop()


def wait_for_stdin(implementation):
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        for stream, callback in getattr(implementation, "streams", list)():
            selector.register(stream, selectors.EVENT_READ, callback)
        while True:
            ready = [key for key, _ in selector.select()]
            for key in ready:
                # A stream that has ended is no longer watched. The exit of its process is handled elsewhere.
                if key.fd != 0 and not key.data():
                    selector.unregister(key.fileobj)
            if any(key.fd == 0 for key in ready):
                return


def answer(implementation, message):
    """Answers one message. Returns whether it was the last one."""
    kind = message["type"]
    if kind == "hello":
        # Socket paths are limited to about 100 characters and the folder's path may be long, so they are relative to it.
        os.chdir(message["folder"])
        implementation.hello(message["folder"])
        say(type="hello", contract=1, name=implementation.name, version=implementation.version(),
            features=implementation.features)
    elif kind == "apply":
        revision = message["revision"]
        try:
            refuse_rare(message["plan"])
            implementation.apply(message)
            say(type="applied", revision=revision)
        except Unsupported as lack:
            say(type="unsupported", revision=revision, feature=str(lack))
        except Rejected as words:
            say(type="rejected", revision=revision, reason=str(words))
    elif kind == "settle":
        implementation.settle()
        say(type="settled")
    elif kind == "stop":
        implementation.stop()
        say(type="stopped")
    return kind == "stop"


def refuse_rare(plan):
    """Refuses what none of these adapters carries out. Adapters refuse redirects and similar elements themselves."""
    def unable(what):
        raise Rejected("this adapter does not support %s yet" % what)

    for proxy in plan["proxies"]:
        for chain in (chain for listener in proxy["listeners"] for chain in listener["chains"]):
            if isinstance(chain["tls"], dict):
                unable("a gateway's own certificates")
            if chain["matches"]["transport"] == "plain-http":
                unable("telling HTTP from other plain text")
            if "tcp-weighted" in chain["action"]:
                unable("weights for connections")
            for host in chain["action"].get("http", {}).get("virtual_hosts", []):
                if host.get("require_tls"):
                    unable("redirects to HTTPS")
                for route in host["routes"]:
                    refuse_rare_route(route, unable)
        for cluster in proxy["clusters"]:
            origin = (cluster["tls"] or {}).get("originate", {})
            if "one-of-and-host" in origin.get("names", ""):
                unable("certificates that must contain two names")


def refuse_rare_route(route, unable):
    if route["matches"].get("without_headers") or route["matches"].get("ignore_case"):
        unable("conditions on absent headers or without regard to case")
    forward = route["action"].get("forward", {})
    if forward.get("regex_rewrite") or forward.get("mirrors"):
        unable("rewrites by expression or copies of requests")
    own = ("host_rewrite", "request_headers", "response_headers")
    if any(name in cluster for cluster in forward.get("clusters", []) for name in own):
        unable("changes for one of several destinations")


def until(holds, what, limit=10.0):
    """Polls until `holds()` is true: nothing announces it."""
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            raise Rejected("timed out after %g s waiting until %s" % (limit, what))
        time.sleep(0.005)


def alive(process, name, errors):
    """Exits, which the suite notices, if a proxy's process has exited unexpectedly."""
    if process.poll() is not None:
        sys.exit("%s exited unexpectedly (%d): %s" % (name, process.returncode, read(errors)[-2000:]))


def private(path, content):
    """Writes a file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)
    return path


def read(path):
    with open(path) as file:
        return file.read()


def end(process, limit=5.0):
    """Ends a process and waits for its exit."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class LoggedProcess:
    """The process of a proxy that writes its access log to a file. A subclass opens `log` and `errors`, sets `process` when it runs,
    and turns a line into one that the suite reads with `logged(line)`."""

    process, unread = None, b""

    @staticmethod
    def logged(line):
        return line

    def read(self):
        """Hands on the lines that are new. Returns how many."""
        *lines, self.unread = (self.unread + self.log.read()).split(b"\n")
        for line in lines:
            log(self.name, self.logged(line.decode("utf-8", "replace")))
        return len(lines)

    def stop(self):
        if self.process:
            end(self.process)
            self.read()
        self.log.close()
        self.errors.close()


class PerProxy:
    """An implementation that runs a program once per proxy of the plan.

    A subclass makes what a proxy is given with `configuration(proxy, message)`, and the object that runs it with
    `process(name, folder)`: it has `apply(configuration)`, `settle()` and `stop()`."""

    # How much of a proxy's name its folder has: paths of sockets are limited.
    letters = 20

    def __init__(self):
        self.proxies, self.folder, self.authority, self.hop_names = {}, None, None, {}

    def hello(self, folder):
        self.folder = folder

    def folder_of(self, name):
        return os.path.join(self.folder, "p%s" % "".join(c for c in name if c.isalnum())[:self.letters])

    @property
    def hop(self):
        """The authority of the hop between the proxies."""
        if self.authority is None:
            self.authority = MeshAuthority(self.folder)
        return self.authority

    def apply(self, message):
        self.hop_names = names_asked_of(message["plan"])
        made = {p["name"]: self.configuration(p, message) for p in message["plan"]["proxies"]}
        for name in self.proxies.keys() - made.keys():
            self.proxies.pop(name).stop()
        for name, configuration in made.items():
            if name not in self.proxies:
                self.proxies[name] = self.process(name, self.folder_of(name))
            self.proxies[name].apply(configuration)

    def settle(self):
        for proxy in self.proxies.values():
            proxy.settle()

    def stop(self):
        for proxy in self.proxies.values():
            proxy.stop()
        self.proxies = {}


class MeshAuthority:
    """Certificates for the hop between the proxies.

    nginx and HAProxy compare a server's certificate with a DNS name, never with a SPIFFE identity (a URI). An operator who
    wants both sides of that hop verified uses a separate CA with DNS names, and so does this adapter."""

    def __init__(self, folder):
        self.folder, self.issued = folder, {}
        self.roots = os.path.join(folder, "hop-ca.pem")
        self.key = os.path.join(folder, "hop-ca.key")
        self.openssl("-keyout", self.key, "-out", self.roots, "-subj", "/O=cluster.local/CN=hop CA",
                     "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def openssl(self, *arguments):
        made = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             *arguments], capture_output=True, text=True, umask=0o077)
        if made.returncode:
            raise Rejected("openssl: " + made.stderr)

    def certificate(self, proxy, names):
        """Returns certificate and key files for a proxy, valid for these names as server and as client."""
        names = tuple(sorted(set(names))) or ("%s.proxy" % proxy,)
        if (proxy, names) not in self.issued:
            base = os.path.join(self.folder, "hop-%d" % len(self.issued))
            self.openssl("-CA", self.roots, "-CAkey", self.key, "-keyout", base + ".key", "-out", base + ".pem",
                         "-subj", "/O=cluster.local/OU=%s" % proxy,
                         "-addext", "basicConstraints=critical,CA:FALSE",
                         "-addext", "extendedKeyUsage=serverAuth,clientAuth",
                         "-addext", "subjectAltName=" + ",".join("DNS:" + name for name in names))
            self.issued[proxy, names] = base + ".pem", base + ".key"
        return self.issued[proxy, names]


def names_asked_of(plan):
    """For each address that accepts mutual TLS of the mesh: the server names that other proxies of the plan send to it."""
    names = {}
    for proxy in plan["proxies"]:
        for cluster in proxy["clusters"]:
            if cluster["tls"] and "mesh-mutual" in cluster["tls"]:
                for address in cluster["discovery"].get("endpoints", []):
                    names.setdefault(address, set()).add(cluster["tls"]["mesh-mutual"]["sni"])
    return names


class Origin:
    """How TLS is originated to an external service, in terms that most proxies' configurations have."""

    def __init__(self, tls, credentials, system_roots):
        self.sni = tls["sni"]["fixed"] if "fixed" in tls["sni"] else None
        self.sni_from_host = tls["sni"] == "from-host"
        self.missing = False
        self.certificate = self.key = self.crl = None
        by_name = {c["name"]: c for c in credentials}

        def credential(name, *fields):
            found = by_name.get(name, {})
            if any(found.get(f) is None for f in fields):
                self.missing = True
            return [found.get(f) for f in fields]

        trust = tls["trust"]
        self.verified = trust != "anybody"
        if trust == "system-roots":
            self.roots = system_roots
        elif "file" in trust:
            self.roots = trust["file"]
        else:
            self.roots, = credential(trust["credential"], "ca") if self.verified else [None]
        client = tls["client_certificate"] or {}
        if "credential" in client:
            self.certificate, self.key = credential(client["credential"], "certificate", "key")
        elif "files" in client:
            self.certificate, self.key = client["files"]["certificate"], client["files"]["key"]
        if tls.get("crl_file"):
            self.crl = tls["crl_file"]
        elif tls["credential"]:
            self.crl = by_name.get(tls["credential"], {}).get("crl")
        self.alpn = tls["alpn"]
        self.names = tls["names"]
        self.min_version, self.max_version = tls["min_version"], tls["max_version"]

    def needs_other_names(self):
        """Whether the certificate must be compared with a name other than the server name (SNI) that is sent."""
        if not self.verified or self.names == "chain-only":
            return False
        if self.names == "from-host":
            return not self.sni_from_host
        return len(self.names["one-of"]) > 1 or self.sni_from_host or self.sni not in (None, *self.names["one-of"])


def cluster_of(clusters, name):
    """The cluster of this name. A route may name one that the plan does not hold (no such service, port or subset): it leads nowhere,
    and requests get 503."""
    return clusters.get(name) or {"name": name, "discovery": "nowhere", "protocol": "http1", "tls": None}


def domain_rank(domain):
    """A key that sorts domains by precedence: `*`, then `*.suffix` by length, then exact names. The highest match wins."""
    return (0, 0) if domain == "*" else (1, len(domain)) if domain.startswith("*.") else (2, 0)


def by_authority(hosts):
    """Gives routes that require a certain Host a virtual host: nginx and Apache httpd select a server by
    Host, but not a location."""
    for host in hosts:
        asked = [r["matches"]["headers"].get(":authority") for r in host["routes"]]
        names = dict.fromkeys(m["exact"] for m in asked if m and m != "present" and "exact" in m)
        for name in [*names, None]:
            routes = []
            for route in host["routes"]:
                headers = dict(route["matches"]["headers"])
                condition = headers.get(":authority")
                if condition and condition != "present" and "exact" in condition:
                    if condition["exact"] != name:
                        continue
                    del headers[":authority"]
                routes.append({**route, "matches": {**route["matches"], "headers": headers}})
            yield {**host, "domains": host["domains"] if name is None else [name], "routes": routes}
