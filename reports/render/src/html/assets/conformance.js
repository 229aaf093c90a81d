const checks = [...document.querySelectorAll("details.check")];
const texts = new Map();

const LANES = [["workload", "lane-w"], ["proxy", "lane-p"], ["external service", "lane-s"], ["mesh service", "lane-s"]];

/** The column of the timeline for a side. */
const laneOf = (side) => LANES.find(([start]) => side.startsWith(start))?.[1] ?? "lane-x";

/** A text of at most `most` characters. */
const brief = (text, most) => (text.length > most ? text.slice(0, most) + "…" : text);

/** A pair of texts as a list: what was expected and what was seen. */
function against(expected, seen) {
  return el("dl", "against", el("dt", "", "✓ expected"), el("dd", "want", expected), el("dt", "", "✗ seen"), el("dd", "got", seen));
}

/** One piece on the timeline of a check. */
function pieceItem(data, number, [index, decides, differences]) {
  const one = piece(data, number, index);
  const summary = el("summary", "", el("span", "who", one.side), " ", el("span", "at", one.at));
  if (decides) summary.append(" ", el("span", "rests", "● decides"));
  summary.append(" ", el("span", "what", brief(one.headline, 300)));
  const details = el("details", "piece", summary, el("div", "details"));
  details.dataset.piece = index;
  const item = el("li", laneOf(one.side) + (differences.length ? " wrong" : decides ? " decides" : ""), details);
  for (let i = 0; i < differences.length; i += 2) item.append(against(data.s[differences[i]], data.s[differences[i + 1]]));
  return item;
}

const COLOURS = { expected: "want", seen: "got" };
const MARKS = { expected: "✓ ", seen: "✗ " };

/** Everything about a check that the page does not contain as markup. A skipped check has nothing to mark. */
function checkBody(data, section, check, isSkipped) {
  const number = Number(section.dataset.number);
  const { d: rows, l: change, e: items, n: leftOut, m: missing, r: repeat } = data.k[number].c[check];
  const text = (n) => data.s[n];
  const list = el("dl");
  for (let i = 0; i < rows.length; i += 2) {
    const label = text(rows[i]);
    const value = el("dd", isSkipped ? "" : COLOURS[label] ?? "", text(rows[i + 1]));
    const link = label === "section" && section.querySelector("p > a")?.cloneNode(true);
    if (link) value.replaceChildren(link, ", “" + text(rows[i + 1]) + "”");
    list.append(el("dt", "", link ? "document" : (isSkipped ? "" : MARKS[label] ?? "") + label), value);
  }
  const last = el("dd", "", "none before this evidence was recorded");
  if (change) {
    const link = el("a", "", brief(text(change[1]), 160));
    link.href = `#change-${number}-${change[0]}`;
    last.replaceChildren(link);
  }
  list.append(el("dt", "", "last change"), last);
  const out = [list, el("h4", "", "Evidence")];
  if (items.length) {
    const lanes = el("div", "lanes", el("span", "", "workload"), el("span", "", "proxies"), el("span", "", "services"));
    lanes.ariaHidden = "true";
    out.push(lanes, el("ol", "timeline", ...items.map((item) => pieceItem(data, number, item))));
  } else if (!missing.length) {
    out.push(el("p", "soft", "No evidence was recorded."));
  }
  if (leftOut) out.push(el("p", "soft", `… and ${leftOut} more in report.json.`));
  for (const id of missing) out.push(el("p", "soft", `Evidence ${text(id)} is not in the report.`));
  const command = el("div", "command", el("pre", "", el("code", "", text(repeat))), el("button", "copy", "Copy"));
  command.lastChild.type = "button";
  copyable(command.lastChild);
  return [...out, el("h4", "", "Repeat this check"), command];
}

const SIGNS = ["  ", "+ ", "− ", ""];
const KINDS = ["", "added", "removed", "gap"];

/** The differences of one change. */
function changeBody(data, section, change) {
  const [items, refused, inForce] = data.k[Number(section.dataset.number)].h[change];
  const out = [];
  for (const [kind, name, lines] of items) {
    out.push(el("p", "", el("strong", "", data.s[kind]), " " + data.s[name]));
    if (!lines.length) continue;
    const box = el("div", "diff");
    box.tabIndex = 0;
    box.role = "group";
    box.ariaLabel = "Difference";
    for (let i = 0; i < lines.length; i += 2) box.append(el("code", KINDS[lines[i]], SIGNS[lines[i]] + data.s[lines[i + 1]]));
    out.push(box);
  }
  if (refused !== null) out.push(el("p", "fault", "Rejected: " + data.s[refused]));
  return [...out, el("p", "soft", "In force after this change: " + data.s[inForce])];
}

/** Adds to an opened element what the page has only as packed data. */
async function fill(details) {
  const { check, change, piece: index } = details.dataset;
  const place = details.querySelector(index === undefined ? ".body" : ".details");
  if (!place || details.dataset.filled || (check ?? change ?? index) === undefined) return;
  details.dataset.filled = "yes";
  const section = details.closest("section.scenario");
  try {
    const data = await block("evidence");
    if (check !== undefined) place.append(...checkBody(data, section, Number(check), details.dataset.verdict === "skipped"));
    else if (change !== undefined) place.append(...changeBody(data, section, Number(change)));
    else place.append(rowsOf(piece(data, Number(section.dataset.number), Number(index))));
  } catch (error) {
    place.append(failure(error));
  }
}

document.addEventListener("toggle", (event) => {
  if (event.target.matches("details.check, details.change, details.piece") && event.target.open) fill(event.target);
}, true);

// The meanings of the words that stand hundreds of times on the page, from its legend.
const meanings = new Map([...document.querySelectorAll("#legend dt")].map((term) => [term.textContent, term.nextElementSibling.textContent]));
for (const word of document.querySelectorAll(".verdict:not([title]), .level:not([title])")) word.title = meanings.get(word.textContent) ?? "";

const attention = new Set(["failed", "inconclusive", "error"]);

function apply() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const verdict = $("verdict").value;
  const level = $("level").value;
  let shown = 0;
  for (const check of checks) {
    if (!texts.has(check)) texts.set(check, (check.id + " " + check.querySelector("summary").textContent + " "
      + (check.querySelector(".reason")?.textContent ?? "")).toLowerCase());
    const own = check.dataset.verdict;
    const fits = (!verdict || own === verdict || (verdict === "attention" && attention.has(own)))
      && (!level || check.dataset.level === level)
      && words.every((word) => texts.get(check).includes(word));
    check.hidden = !fits;
    if (fits) shown += 1;
  }
  const narrowed = words.length > 0 || verdict || level;
  for (const section of document.querySelectorAll("section.scenario")) {
    section.hidden = Boolean(narrowed) && !section.querySelector("details.check:not([hidden])");
  }
  // The causes and the cards show what the filter leaves of them.
  for (const item of document.querySelectorAll(".cause li")) {
    const target = document.getElementById(decode(item.querySelector("a.caused")?.hash.slice(1) ?? ""));
    item.hidden = Boolean(target?.hidden);
  }
  for (const cause of document.querySelectorAll(".cause")) {
    cause.hidden = Boolean(narrowed) && !cause.querySelector("li:not([hidden])");
  }
  for (const item of document.querySelectorAll(".card li")) {
    item.hidden = Boolean(document.getElementById(decode(item.querySelector("a").hash.slice(1)))?.hidden);
  }
  for (const card of document.querySelectorAll(".card")) card.hidden = !card.querySelector("li:not([hidden])");
  if (narrowed) $("all-checks").open = true;
  $("count").textContent = `${shown} of ${checks.length} checks` + (shown === 0 ? ": nothing matches. Clear the search or choose “all”" : "");
}

function store() {
  const state = { q: $("search").value, verdict: $("verdict").value, level: $("level").value };
  history.replaceState(null, "", hashOf(state));
}

function restore() {
  const state = readHash();
  if ("id" in state) {
    const target = state.id && document.getElementById(state.id);
    if (target) {
      // A link to a check shows it even if the filter hides it.
      if (target.hidden || target.closest("[hidden]")) { $("search").value = ""; $("verdict").value = ""; $("level").value = ""; apply(); }
      for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
      target.scrollIntoView();
      const focus = () => (target.querySelector("summary") ?? target).focus({ preventScroll: true });
      // The browser's own navigation to the fragment moves the focus when the page has loaded.
      if (document.readyState === "complete") focus(); else addEventListener("load", () => setTimeout(focus));
    }
    return;
  }
  $("search").value = state.q ?? "";
  $("verdict").value = state.verdict ?? "";
  $("level").value = state.level ?? "";
  apply();
}

$("filter").hidden = false;
for (const id of ["search", "verdict", "level"]) $(id).addEventListener("input", () => { apply(); store(); });
$("unfold").addEventListener("click", (event) => {
  const open = event.target.textContent === "Expand all";
  for (const check of checks) if (!check.hidden) check.open = open;
  event.target.textContent = open ? "Collapse all" : "Expand all";
});
addEventListener("hashchange", restore);
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) {
    event.preventDefault();
    $("search").focus();
  }
});
apply();
restore();
document.documentElement.dataset.ready = "yes";
