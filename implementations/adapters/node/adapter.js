#!/usr/bin/env node
"use strict";
// A template for an adapter in JavaScript, with nothing to install: a forwarding proxy that originates TLS. It does the same as the
// worked example in Python (../python/adapter.py), but passes bodies on as they come. docs/adapters.md describes the messages.
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const readline = require("node:readline");
const tls = require("node:tls");

const FEATURES = ["sidecar", "registry-only", "access-log"];

/** Sends one message to the suite, which is one line of JSON. */
const say = (message) => fs.writeSync(1, JSON.stringify(message) + "\n");

/** The plan needs a feature that this proxy lacks. */
class Unsupported extends Error {}

/** How TLS is originated to an external service: options of `https.request`, and the fixed server name or null. */
function clientTls(wanted, apply) {
  if ("mesh-mutual" in wanted) throw new Unsupported("mesh-mtls");
  const origin = wanted.originate;
  if (origin.client_certificate) throw new Unsupported("mutual-origination");
  if (origin.sni === "absent") throw new Unsupported("san-validation");
  const fixed = typeof origin.sni === "object" ? origin.sni.fixed : null;
  const options = { ALPNProtocols: ["http/1.1"] };
  if (origin.trust === "anybody") {
    options.rejectUnauthorized = false;
  } else if (origin.trust === "system-roots") {
    options.ca = fs.readFileSync(apply.system_roots);
  } else {
    // The roots come from a credential, which this proxy does not support.
    throw new Unsupported("mutual-origination");
  }
  if (origin.names === "chain-only") {
    options.checkServerIdentity = () => undefined;
  } else if (origin.trust !== "anybody" && origin.names !== "from-host") {
    const names = origin.names["one-of"];
    if (!names) throw new Unsupported("san-validation");
    options.checkServerIdentity = (_host, certificate) => {
      const errors = names.map((name) => tls.checkServerIdentity(name, certificate));
      return errors.includes(undefined) ? undefined : errors[0];
    };
  } else if (fixed !== null && origin.names === "from-host") {
    throw new Unsupported("san-validation");
  }
  return { options, fixed };
}

/** One applied plan, prepared for answering requests. */
function prepared(apply) {
  const plan = { listeners: new Map(), tls: new Map(), lacks: new Map() };
  for (const proxy of apply.plan.proxies) {
    const clusters = new Map(proxy.clusters.map((cluster) => [cluster.name, cluster]));
    for (const cluster of proxy.clusters) {
      const key = proxy.name + "\n" + cluster.name;
      // A plan contains more than a scenario asks about. A missing feature matters only if a request needs it.
      try {
        if (cluster.protocol === "http2") throw new Unsupported("http2");
        if (cluster.tls) plan.tls.set(key, clientTls(cluster.tls, apply));
      } catch (error) {
        if (!(error instanceof Unsupported)) throw error;
        plan.lacks.set(key, error.message);
      }
    }
    for (const listener of proxy.listeners) {
      for (const chain of listener.chains) {
        // An application's own TLS needs the feature tls-passthrough; the mesh's TLS needs mesh-mtls.
        if (!("http" in chain.action) || chain.matches.transport === "tls" || chain.tls) continue;
        plan.listeners.set(listener.bind, { proxy: proxy.name, port: listener.port, hosts: chain.action.http.virtual_hosts, clusters });
      }
    }
  }
  return plan;
}

/** The virtual host by precedence: an exact domain, then the longest `*.suffix`, then `*`. */
function virtualHost(hosts, authority) {
  const rank = (domain) => {
    if (domain === authority) return 1e9;
    if (domain.startsWith("*.") && authority.endsWith(domain.slice(1))) return 1 + domain.length;
    return domain === "*" ? 1 : 0;
  };
  let best = null;
  let most = 0;
  for (const host of hosts) {
    for (const domain of host.domains) if (rank(domain) > most) [best, most] = [host, rank(domain)];
  }
  return best;
}

/** Whether a route matches. The scenarios that this proxy can run use no conditions on headers or queries. */
function matches({ path, headers, query }, actual) {
  if (Object.keys(headers).length || Object.keys(query).length) return false;
  if (path === "any") return true;
  return "prefix" in path ? actual.startsWith(path.prefix) : actual === path.exact;
}

function addressOf({ discovery }, host, port) {
  if (discovery === "nowhere") return undefined;
  const original = () => discovery["original-destination"].find((d) => d.host === host && d.port === port)?.address;
  return "endpoints" in discovery ? discovery.endpoints[0] : original();
}

/** The fields without those of this connection, and those that its Connection field names (RFC 9110, section 7.6.1). */
function onward(raw, also) {
  const pairs = [];
  for (let i = 0; i < raw.length; i += 2) pairs.push([raw[i], raw[i + 1]]);
  const named = pairs.filter(([name]) => name.toLowerCase() === "connection").flatMap(([, value]) => value.toLowerCase().split(","));
  const own = new Set(["connection", "keep-alive", "transfer-encoding", ...named.map((n) => n.trim()), ...also]);
  return pairs.filter(([name]) => !own.has(name.toLowerCase()));
}

/** Answers one request. `plan` is read once: a plan that is applied in the meantime holds for the next request. */
function answer(plan, bind, request, response) {
  const listener = plan.listeners.get(bind);
  if (!listener) return request.destroy();
  const log = {
    start_time: new Date().toISOString(), method: request.method, path: request.url, protocol: "HTTP/" + request.httpVersion,
    authority: (request.headers.host ?? "").toLowerCase(), user_agent: request.headers["user-agent"] ?? "-",
    upstream_host: "-", upstream_cluster: "-",
  };
  let logged = false;
  // Before the end of the response: when the client has its response, the line is sent, so `settle` need not wait.
  const note = (status) => {
    if (!logged) say({ type: "log", proxy: listener.proxy, line: JSON.stringify({ ...log, response_code: status }) });
    logged = true;
  };
  const finish = (status, text) => {
    note(status);
    request.resume();
    response.writeHead(status, { "content-length": Buffer.byteLength(text) }).end(request.method === "HEAD" ? "" : text);
  };
  const host = virtualHost(listener.hosts, log.authority);
  const route = host?.routes.find((r) => matches(r.matches, request.url.split("?")[0]));
  if (!route) return finish(404, "");
  if (!route.action.forward) {
    const direct = route.action["direct-response"] ?? { status: 500, body: "this proxy does not support the action of this route\n" };
    return finish(direct.status, direct.body ?? "");
  }
  const forward = route.action.forward;
  const clusterName = forward.clusters[0].cluster;
  const cluster = listener.clusters.get(clusterName) ?? { discovery: "nowhere" };
  log.authority = forward.host_rewrite ?? log.authority;
  log.upstream_cluster = clusterName;
  const name = log.authority.split(":")[0];
  const key = listener.proxy + "\n" + clusterName;
  if (plan.lacks.has(key)) return finish(503, `this proxy lacks ${plan.lacks.get(key)}\n`);
  const address = addressOf(cluster, name, listener.port);
  if (!address) return finish(503, "no healthy upstream\n");
  log.upstream_host = address;
  const origin = plan.tls.get(key);
  const headers = [["Host", log.authority], ...onward(request.rawHeaders, ["host", "expect"])];
  if ("transfer-encoding" in request.headers) headers.push(["Transfer-Encoding", "chunked"]);
  const at = address.lastIndexOf(":");
  const upstream = (origin ? https : http).request({
    host: address.slice(0, at), port: Number(address.slice(at + 1)), method: request.method, path: request.url,
    headers: headers.flat(), setHost: false, agent: false, ...(origin && { ...origin.options, servername: origin.fixed ?? name }),
  });
  upstream.on("error", (error) => {
    if (!response.headersSent) return finish(503, `upstream failed: ${error.message}\n`);
    note(response.statusCode);
    response.destroy();
  });
  upstream.on("response", (from) => {
    const isBodiless = request.method === "HEAD" || from.statusCode === 204 || from.statusCode === 304;
    response.sendDate = false;
    response.writeHead(from.statusCode, from.statusMessage, onward(from.rawHeaders, []).flat());
    if (isBodiless) note(from.statusCode);
    from.pipe(response, { end: false });
    from.on("end", () => {
      note(from.statusCode);
      if (from.complete && from.rawTrailers.length) response.addTrailers(Object.fromEntries(onward(from.rawTrailers, [])));
      if (from.complete) response.end(); else response.destroy();
    });
    // The server broke off. The client must not take this for the end.
    from.on("error", () => { note(from.statusCode); response.destroy(); });
  });
  response.on("close", () => { if (!response.writableFinished) { note(response.statusCode); upstream.destroy(); } });
  request.pipe(upstream);
}

let plan = prepared({ plan: { proxies: [] } });
const servers = new Map();

function listen(bind) {
  const server = http.createServer((request, response) => answer(plan, bind, request, response));
  const at = bind.lastIndexOf(":");
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(Number(bind.slice(at + 1)), bind.slice(0, at), () => resolve(servers.set(bind, server)));
  });
}

function close(bind) {
  const server = servers.get(bind);
  servers.delete(bind);
  server.close();
  server.closeAllConnections();
}

async function apply(message) {
  const next = prepared(message);
  for (const bind of next.listeners.keys()) if (!servers.has(bind)) await listen(bind);
  plan = next;
  for (const bind of [...servers.keys()]) if (!next.listeners.has(bind)) close(bind);
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const message = JSON.parse(line);
    if (message.type === "hello") {
      say({ type: "hello", contract: 1, name: "Node example", version: process.versions.node, features: FEATURES });
    } else if (message.type === "apply") {
      try {
        await apply(message);
        say({ type: "applied", revision: message.revision });
      } catch (error) {
        say({ type: "rejected", revision: message.revision, reason: String(error.message) });
      }
    } else if (message.type === "settle") {
      say({ type: "settled" });
    } else if (message.type === "stop") {
      for (const bind of [...servers.keys()]) close(bind);
      say({ type: "stopped" });
      break;
    }
  }
  process.exit(0);
}

main();
