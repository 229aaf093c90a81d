"use strict";
// Texts from the report are put into the page as text and never as markup; the page's policy (Trusted Types) holds this
// script to it.
const $ = (id) => document.getElementById(id);

/** An element with a class and children; a child that is a string becomes text. */
function el(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

const blocks = new Map();

/** The packed evidence in the element with this id; unpacked once. */
function block(id) {
  if (!blocks.has(id)) blocks.set(id, unpack($(id)));
  return blocks.get(id);
}

async function unpack(element) {
  if (!element) throw new Error("the page holds no evidence for this");
  if (!("DecompressionStream" in window)) throw new Error("this browser cannot unpack it");
  const packed = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

/** A piece of a block, with its texts in place of their numbers. */
function piece(data, column, index) {
  const [id, at, side, kind, token, headline, rows, fields] = data.k[column].p[index];
  const own = data.s[token];
  const text = (n) => data.s[n].replaceAll("\u0001", own);
  const pairs = (list) => {
    const out = [];
    for (let i = 0; i < list.length; i += 2) out.push([text(list[i]), text(list[i + 1])]);
    return out;
  };
  return {
    id: data.s[id], at: data.s[at], side: data.s[side], kind: data.s[kind], token: own,
    headline: text(headline), rows: pairs(rows), fields: pairs(fields),
  };
}

/** Labels and values as a list. */
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

function trouble(error) {
  return el("p", "soft", "The details cannot be shown: " + error.message + ". The report's JSON has them.");
}

/** The state that a link carries, behind the page's `#`. */
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

for (const button of document.querySelectorAll("button.copy")) {
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
