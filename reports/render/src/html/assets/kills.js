const rows = [...document.querySelectorAll("#matrix tbody tr")];
const heads = [...document.querySelectorAll("#matrix thead th")];

/** Filters rows by check; if no check matches, filters columns by saboteur. */
function apply() {
  const word = $("query").value.trim().toLowerCase();
  const columns = heads.map((head, n) => n === 0 || !word || head.textContent.toLowerCase().includes(word));
  const anyColumn = word && columns.slice(1).some(Boolean);
  const fits = rows.map((row) => !word || row.cells[0].textContent.toLowerCase().includes(word));
  const anyRow = fits.some(Boolean);
  let shown = 0;
  rows.forEach((row, n) => {
    const hits = anyColumn && !anyRow ? [...row.cells].some((cell, at) => at > 0 && columns[at] && cell.className === "hit") : fits[n];
    row.hidden = !hits;
    if (hits) shown += 1;
  });
  const narrow = anyColumn && !anyRow;
  for (const row of [heads[0].parentElement, ...rows]) {
    [...row.cells].forEach((cell, at) => { cell.hidden = narrow && !columns[at]; });
  }
  $("count").textContent = `${shown} of ${rows.length} checks` + (shown ? "" : ": no check and no saboteur has this name. Clear the search");
  history.replaceState(null, "", hashOf({ q: $("query").value }));
}

$("bar").hidden = false;
keepHeads();
const state = readHash();
if ("q" in state) $("query").value = state.q;
$("query").addEventListener("input", apply);
apply();
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-to]");
  if (!button) return;
  const target = $(button.dataset.to);
  target.open = true;
  target.scrollIntoView();
  target.querySelector("summary").focus({ preventScroll: true });
});

// Highlights the row and column under the pointer, because a mark may be far from both headers.
$("matrix").addEventListener("mouseover", (event) => {
  const cell = event.target.closest("td");
  for (const lit of document.querySelectorAll(".lit")) lit.classList.remove("lit");
  if (!cell) return;
  heads[cell.cellIndex].classList.add("lit");
  cell.parentElement.cells[0].classList.add("lit");
});
document.documentElement.dataset.ready = "yes";
