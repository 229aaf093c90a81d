"use strict";
// Texts from the report are inserted into the page as text, never as markup. The page's policy (Trusted Types) enforces
// this.
const $ = (id) => document.getElementById(id);

/** An element with a class and children. A string child becomes text. */
function el(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

const blocks = new Map();

/** The packed evidence in the element with this id. It is unpacked once. */
function block(id) {
  if (!blocks.has(id)) blocks.set(id, unpack($(id)));
  return blocks.get(id);
}

async function unpack(element) {
  if (!element) throw new Error("this page was created without evidence");
  if (!("DecompressionStream" in window)) throw new Error("this browser does not support DecompressionStream");
  const packed = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

/** A piece of a block, with its text numbers replaced by the texts. */
function piece(data, column, index) {
  const [id, at, side, kind, token, headline, rows, fields, step, title] = data.k[column].p[index];
  const own = data.s[token];
  const text = (n) => data.s[n].replaceAll("\u0001", own);
  const pairs = (list) => {
    const out = [];
    for (let i = 0; i < list.length; i += 2) out.push([text(list[i]), text(list[i + 1])]);
    return out;
  };
  return {
    id: data.s[id], at: data.s[at], side: data.s[side], kind: data.s[kind], token: own,
    headline: text(headline), rows: pairs(rows), fields: pairs(fields), step, title: data.s[title],
  };
}

/** The labels and values of a piece as a list. */
function rowsOf(piece) {
  const list = el("dl");
  const all = [["evidence", piece.id + ", at " + piece.at + (piece.token ? ", token " + piece.token : "")], ...piece.rows];
  for (const [label, value] of all) {
    list.append(el("dt", "", label));
    const pre = el("pre", "", value);
    list.append(el("dd", "", pre));
    if (value.length > 1500) pre.tabIndex = 0;
  }
  return list;
}

function failure(error) {
  return el("p", "soft", "The details cannot be shown: " + error.message + ". report.json contains them.");
}

/** The state in the page's address, after `#`. */
function readHash() {
  const text = location.hash.slice(1);
  return text.includes("=") ? Object.fromEntries(new URLSearchParams(text)) : { id: decode(text) };
}

function decode(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function hashOf(state) {
  const entries = Object.entries(state).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return entries.length ? "#" + new URLSearchParams(entries).toString() : "#";
}

/** Marks the sides of a horizontally scrolling box where content is out of view, so that these edges fade. */
function mark(box) {
  box.classList.toggle("more-left", box.scrollLeft > 1);
  box.classList.toggle("more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
}

// A picture in a closed check has no size. When the check is opened, its failing hop is scrolled into view.
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const box = target.closest(".scroll, .matrix-scroll");
    const failing = box.clientWidth && !box.dataset.placed && box.querySelector(".hop.failing, .box.failing");
    if (failing) {
      box.dataset.placed = "yes";
      const [own, whole] = [failing.getBoundingClientRect(), box.getBoundingClientRect()];
      box.scrollLeft += (own.left + own.right - whole.left - whole.right) / 2;
    }
    mark(box);
  }
});
for (const box of document.querySelectorAll(".scroll, .matrix-scroll")) {
  box.addEventListener("scroll", () => mark(box), { passive: true });
  sizes.observe(box);
  if (box.firstElementChild) sizes.observe(box.firstElementChild);
}

/** Keeps the header row of a matrix visible when the bar above it or the window's edge covers the top of its box. */
function keepHeads() {
  const box = document.querySelector(".matrix-scroll");
  const head = box?.querySelector("thead");
  if (!head) return;
  // Style rules instead of style attributes, which the page's policy forbids.
  const sheet = document.styleSheets[0];
  const rule = (selector) => sheet.cssRules[sheet.insertRule(selector + " {}", sheet.cssRules.length)].style;
  const [heads, padding] = [rule(".matrix thead th"), rule(".matrix-scroll")];
  const place = () => {
    const { top, height } = box.getBoundingClientRect();
    const hidden = Math.max(0, $("bar").getBoundingClientRect().bottom) - top;
    const own = head.getBoundingClientRect().height;
    const under = Math.max(0, Math.min(hidden, height - own));
    heads.top = under + "px";
    padding.scrollPaddingTop = under + own + "px";
  };
  addEventListener("scroll", place, { passive: true });
  new ResizeObserver(place).observe($("bar"));
  new ResizeObserver(place).observe(box);
  place();
}

/** Makes a button copy the command beside it. */
function copyable(button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      button.textContent = "Selected";
    }
  });
}
document.querySelectorAll("button.copy").forEach(copyable);
