const checks = [...document.querySelectorAll("details.check")];
const texts = new Map();

async function fill(details) {
  const place = details.querySelector(".details");
  if (!place || place.firstChild) return;
  try {
    const data = await block("block-" + details.dataset.block);
    if (!place.firstChild) place.append(rowsOf(piece(data, 0, Number(details.dataset.piece))));
  } catch (error) {
    place.append(failure(error));
  }
}

document.addEventListener("toggle", (event) => {
  if (event.target.matches("details.piece") && event.target.open) fill(event.target);
}, true);

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
  for (const card of document.querySelectorAll(".card")) {
    const section = document.getElementById(decode(card.querySelector("a")?.hash.slice(1) ?? ""));
    card.hidden = Boolean(section?.hidden);
  }
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
