const heads = [...document.querySelectorAll("#matrix thead th")].slice(1);
const keys = heads.map((head) => head.dataset.key);
const names = heads.map((head) => head.textContent);
const bodies = [...document.querySelectorAll("#matrix tbody")];
const VERDICTS = ["passed", "failed", "inconclusive", "error", "skipped", "missing"];

const table = bodies.flatMap((body) => {
  const scenario = body.dataset.scenario;
  return [...body.rows].filter((row) => !row.classList.contains("group")).map((row, number) => ({
    element: row, body, number, scenario,
    name: row.cells[0].querySelector("span.level").nextSibling.textContent.trim(),
    level: row.cells[0].querySelector("span.level").textContent.toLowerCase(),
    differs: row.hasAttribute("data-d"), control: row.hasAttribute("data-c"),
    text: (scenario + "/" + row.cells[0].textContent).toLowerCase(),
    verdicts: null,
  }));
});

/** The verdicts of a row, read from its cells on first use. Most rows of a large matrix are never used. */
function verdicts(row) {
  row.verdicts ??= [...row.element.cells].slice(1).map((cell) => cell.classList[0] ?? "missing");
  return row.verdicts;
}

/** The column with this key, or all columns with a key or a part of a key that begins with the name. */
function columnsOf(name) {
  const exact = keys.indexOf(name);
  if (exact >= 0) return [exact];
  return keys.map((key, n) => (key.startsWith(name) || key.split("-").some((w) => w.startsWith(name)) ? n : -1)).filter((n) => n >= 0);
}

/** A query as a predicate on rows, or a message about the error in it. */
function parse(query) {
  const tests = [];
  for (const [, minus, quoted, plain] of query.matchAll(/(-?)(?:"([^"]*)"|(\S+))/g)) {
    let test;
    const colon = plain === undefined ? -1 : plain.indexOf(":");
    if (colon <= 0) {
      const word = (quoted ?? plain).toLowerCase();
      test = (row) => row.text.includes(word);
    } else {
      test = term(plain.slice(0, colon).toLowerCase(), plain.slice(colon + 1).toLowerCase().split("|"));
      if (typeof test === "string") return { problem: test };
    }
    tests.push(minus ? (row) => !test(row) : test);
  }
  return { fits: (row) => tests.every((test) => test(row)) };
}

function term(name, values) {
  const only = (allowed) => values.find((value) => !allowed.includes(value));
  if (name === "level") {
    const wrong = only(["must", "should", "may"]);
    return wrong === undefined ? (row) => values.includes(row.level) : `“${wrong}” is not a level. The levels are must, should, may.`;
  }
  if (name === "scenario") return (row) => values.some((value) => row.scenario.toLowerCase().includes(value));
  if (name === "is") {
    const kinds = {
      different: (row) => row.differs, control: (row) => row.control,
      regression: (row) => row.element.textContent.includes("▼"),
      lost: (row) => row.element.textContent.includes("⊘"), fix: (row) => row.element.textContent.includes("▲"),
    };
    const wrong = only(Object.keys(kinds));
    return wrong === undefined ? (row) => values.some((value) => kinds[value](row)) : `“is:${wrong}” is unknown. Use is:${Object.keys(kinds).join(", is:")}.`;
  }
  const wrong = only(VERDICTS);
  if (wrong !== undefined) return `“${wrong}” is not a verdict. The verdicts are ${VERDICTS.join(", ")}.`;
  const has = (row, n) => values.includes(verdicts(row)[n]);
  if (name === "any") return (row) => keys.some((_, n) => has(row, n));
  if (name === "all") return (row) => keys.every((_, n) => has(row, n));
  const columns = columnsOf(name);
  if (columns.length === 0) return `No implementation matches “${name}”. The names are ${keys.join(", ")}.`;
  return (row) => columns.every((n) => has(row, n));
}

const anyDiffers = table.some((row) => row.differs);
let state = {};

function apply() {
  const { fits, problem } = parse($("query").value);
  $("problem").textContent = problem ?? "";
  if (problem) return;
  const all = $("all").checked || !anyDiffers;
  const shownIn = new Map();
  let shown = 0;
  for (const row of table) {
    const visible = (all || row.differs) && fits(row);
    row.element.hidden = !visible;
    if (visible) { shown += 1; shownIn.set(row.body, true); }
  }
  for (const body of bodies) body.hidden = !shownIn.has(body);
  $("count").textContent = `${shown} of ${table.length} checks` + (all ? "" : " (only differences)")
    + (shown ? "" : all ? ": nothing matches. Change the query" : ": nothing matches. Change the query or show checks without differences");
}

function write(push) {
  const hash = hashOf({ q: $("query").value, all: $("all").checked ? "1" : "", cell: state.cell, beside: state.beside });
  if (hash === location.hash || (hash === "#" && !location.hash)) return;
  history[push ? "pushState" : "replaceState"](null, "", hash);
}

function restore() {
  const read = readHash();
  $("query").value = read.q ?? "";
  $("all").checked = read.all === "1";
  state = { cell: read.cell, beside: read.beside };
  apply();
  if (read.cell) show(); else if ($("cell").open) $("cell").close();
}

const idOf = (row, column) => `${row.scenario}/${row.name}@${keys[column]}`;

function find(id) {
  const at = id.lastIndexOf("@");
  const column = keys.indexOf(id.slice(at + 1));
  const row = table.find((r) => `${r.scenario}/${r.name}` === id.slice(0, at));
  return row && column >= 0 ? { row, column } : null;
}

/** The column to compare with: the nearest one with a different verdict (left before right), otherwise the nearest one. */
function neighbour(row, column) {
  const own = verdicts(row);
  const near = keys.map((_, n) => n).filter((n) => n !== column && own[n] !== "missing")
    .sort((a, b) => Math.abs(a - column) - Math.abs(b - column) || a - b);
  return near.find((n) => own[n] !== own[column]) ?? near[0] ?? column;
}

const order = (piece) => (piece.side.startsWith("workload") ? 1 : piece.side.startsWith("proxy") ? 2 : /^(external|mesh) service/.test(piece.side) ? 3 : 0);

/** The pieces of a cell by role, side, kind, step and number, paired in the same way as in the comparison itself. */
function slots(data, column, number) {
  const judged = data.k[column]?.c[number];
  if (!judged) return null;
  const [reason, expected, seen, repeat, story, decides, named, controls] = judged;
  const counts = new Map();
  const found = new Map();
  for (const index of story) {
    const one = piece(data, column, index);
    one.control = controls.includes(index);
    const kind = [one.control ? 1 : 0, order(one), one.side, one.kind === "connection" ? 0 : 1, one.kind].join("\u0001");
    const group = kind + "\u0001" + one.title;
    const nth = counts.get(group) ?? 0;
    counts.set(group, nth + 1);
    const number = String(nth).padStart(4, "0");
    one.sort = [kind, String(one.step).padStart(4, "0"), number].join("\u0001");
    one.decides = decides.includes(index);
    one.named = new Set(named.filter((_, n) => n % 2 === 1 && named[n - 1] === index).map((n) => data.s[n]));
    found.set(group + "\u0001" + number, one);
  }
  const text = (n) => data.s[n];
  return { reason: text(reason), expected: text(expected), seen: text(seen), repeat: text(repeat), found };
}

function pairs(here, there) {
  const sort = (key) => (here?.found.get(key) ?? there.found.get(key)).sort;
  const compare = (a, b) => (sort(a) < sort(b) ? -1 : sort(a) > sort(b) ? 1 : 0);
  const all = [...new Set([...(here?.found.keys() ?? []), ...(there?.found.keys() ?? [])])].sort(compare);
  return all.map((key) => [here?.found.get(key), there?.found.get(key)]);
}

function fieldsOf(a, b) {
  const out = [];
  const there = new Map(b?.fields ?? []);
  for (const [field, value] of a?.fields ?? []) { out.push([field, value, there.get(field)]); there.delete(field); }
  for (const [field, value] of there) out.push([field, undefined, value]);
  return out;
}

/** The first divergence of two cells: a field that a check failed for, otherwise the first in the order of the request path. */
function divergence(all) {
  let first = null;
  let last = null;
  // A check that failed early cites fewer steps. That is a divergence only if there is no other.
  const reached = (one, side) => all.some((pair) => pair[side] && pair[side].control === one.control && pair[side].title === one.title);
  for (const [a, b] of all) {
    for (const [field, left, right] of fieldsOf(a, b)) {
      if (left === right) continue;
      if (a && b && (a.named.has(field) || b.named.has(field))) return { one: a, field };
      if ((a && b) || reached(a ?? b, a ? 1 : 0)) first ??= { one: a ?? b, field };
      else last ??= { one: a ?? b, field };
    }
  }
  return first ?? last;
}

/** A value for readers. An empty list differs from missing evidence. */
const shownValue = (value) => (value === undefined ? "no evidence" : value === "" ? "none" : value);

function side(name, verdict, judged) {
  const box = el("div", "", el("h3", "", name, " ", el("span", "verdict " + verdict, verdict)));
  if (!judged) { box.append(el("p", "soft", "This report does not contain the check.")); return box; }
  box.append(el("p", "reason " + verdict, judged.reason));
  box.append(el("dl", "", el("dt", "", "expected"), el("dd", "", judged.expected), el("dt", "", "seen"), el("dd", "", judged.seen),
    el("dt", "", "repeat"), el("dd", "", el("pre", "", judged.repeat))));
  return box;
}

async function show() {
  const target = state.cell && find(state.cell);
  if (!target) return;
  const { row, column } = target;
  const beside = state.beside !== undefined && keys.includes(state.beside) ? keys.indexOf(state.beside) : neighbour(row, column);
  $("cell-title").textContent = `${row.scenario}/${row.name}`;
  $("beside").value = String(beside);
  const sides = $("sides");
  sides.replaceChildren(el("p", "soft", "Unpacking …"));
  if (!$("cell").open) $("cell").showModal();
  try {
    const data = await block("block-" + row.body.dataset.block);
    if (state.cell === idOf(row, column)) sides.replaceChildren(...compared(data, row, column, beside));
  } catch (error) {
    sides.replaceChildren(failure(error));
  }
}

function compared(data, row, column, beside) {
  const own = verdicts(row);
  const here = slots(data, column, row.number);
  const there = slots(data, beside, row.number);
  const out = [el("div", "pair", side(names[column], own[column], here), side(names[beside], own[beside], there))];
  const summary = el("p", "diverges");
  out.push(summary, el("h3", "", "Evidence"));
  const all = pairs(here, there);
  const departure = divergence(all);
  let first = null;
  for (const [a, b] of all) {
    const shown = a ?? b;
    // What is alike stays folded, so that the divergence is in sight.
    const slot = el("details", "slot");
    const title = el("summary", "", el("strong", "", shown.side + ", " + shown.kind + (shown.control ? " (control)" : "")), (a?.decides || b?.decides) ? " ● decides" : "");
    slot.append(title);
    let identical = true;
    const fields = el("table", "fields");
    fields.append(el("thead", "", el("tr", "", el("th", "", "field"), el("th", "", names[column]), el("th", "", names[beside]))));
    const body = el("tbody");
    for (const [field, left, right] of fieldsOf(a, b)) {
      const departs = left !== right;
      if (departs) identical = false;
      const head = el("th", "", field);
      head.scope = "row";
      const line = el("tr", departs ? "departs" : "", head, el("td", "", shownValue(left)), el("td", "", shownValue(right)));
      if (departs && departure.one === shown && departure.field === field) {
        first = a && b ? `${shown.side}, ${shown.kind}, ${field}: ${shownValue(left)} instead of ${shownValue(right)}`
          : `${shown.side}, ${shown.kind}: only in ${a ? "the left column" : "the right column"}`;
        line.className = "first";
        head.append(" ◀ first divergence");
        slot.classList.add("first");
      }
      body.append(line);
    }
    fields.append(body);
    slot.open = !identical;
    if (identical) title.append(" (identical)");
    slot.append(fields);
    const more = el("details", "", el("summary", "", "All details"));
    const pair = el("div", "pair");
    for (const one of [a, b]) pair.append(one ? el("div", "", el("p", "soft", one.headline), rowsOf(one)) : el("p", "soft", "No matching evidence."));
    more.append(pair);
    slot.append(more);
    out.push(slot);
  }
  summary.textContent = first ? "First divergence: " + first : "The comparable fields do not differ.";
  if (!first) summary.classList.remove("diverges");
  return out;
}

$("bar").hidden = false;
keepHeads();
for (const id of ["query", "all"]) $(id).addEventListener("input", () => { apply(); write(false); });
$("matrix").addEventListener("click", (event) => {
  const cell = event.target.closest("td");
  if (!cell?.firstElementChild) return;
  const row = table.find((r) => r.element === cell.parentElement);
  state = { cell: idOf(row, cell.cellIndex - 1) };
  write(true);
  show();
});
$("beside").addEventListener("change", () => { state.beside = keys[Number($("beside").value)]; write(false); show(); });
$("close").addEventListener("click", () => $("cell").close());
$("cell").addEventListener("close", () => {
  if (!state.cell) return;
  const target = find(state.cell);
  state = {};
  write(true);
  target?.row.element.cells[target.column + 1].querySelector("button")?.focus();
});

// The whole matrix is one tab stop; the arrow keys move inside it.
let current = document.querySelector("#matrix td button");
for (const button of document.querySelectorAll("#matrix td button")) if (button !== current) button.tabIndex = -1;
$("matrix").addEventListener("focusin", (event) => {
  if (!event.target.matches("td button")) return;
  if (current) current.tabIndex = -1;
  current = event.target;
  current.tabIndex = 0;
});
$("matrix").addEventListener("keydown", (event) => {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  const cell = event.target.closest("td");
  if (!step || !cell) return;
  const rows = table.filter((r) => !r.element.hidden);
  let at = rows.findIndex((r) => r.element === cell.parentElement);
  let column = cell.cellIndex;
  for (;;) {
    at += step[0];
    column += step[1];
    const next = rows[at]?.element.cells[column];
    if (!next || column < 1) return;
    if (next.firstElementChild) { event.preventDefault(); next.firstElementChild.focus(); return; }
  }
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !$("cell").open && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) {
    event.preventDefault();
    $("query").focus();
  }
});
addEventListener("popstate", restore);
addEventListener("hashchange", restore);
restore();
document.documentElement.dataset.ready = "yes";
