// Sorting, filters and the two ledgers of a suite's page. The whole state stands in the address after the #.
"use strict";

const form = document.querySelector(".filters");
const groups = [...document.querySelectorAll(".ledger tbody")];
const heads = [...document.querySelectorAll("th[data-sort]")];
const FILTERS = ["codec", "algo", "arch", "labels", "status"];
const DEFAULT = { ledger: "bytes", sort: "rank" };
let sort = DEFAULT.sort; // a column's key, with - in front for descending

function state() {
  const now = Object.fromEntries(new FormData(form));
  return { ...now, q: now.q.trim().toLowerCase(), decoder: now.decoder ? "1" : "", sort };
}

function matches(entry, now) {
  const words = now.q.split(/\s+/).filter(Boolean);
  return FILTERS.every((key) => !now[key] || entry.dataset[key] === now[key])
    && words.every((word) => entry.dataset.text.includes(word));
}

function value(row, column, decoder) {
  const cell = row.cells[column].dataset;
  const text = decoder && "w" in cell ? cell.w : cell.v;
  return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0;
}

function order(now) {
  const down = now.sort.startsWith("-");
  const key = now.sort.replace(/^-/, "");
  for (const head of heads) {
    if (head.dataset.sort === key) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const column = heads.findIndex((head) => head.dataset.sort === key);
  for (const group of groups) {
    const rows = [...group.querySelectorAll(".entry")].map((row, i) => [row, value(row, column, now.decoder), i]);
    rows.sort(([, a, i], [, b, j]) => {
      if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // nothing to sort by: last, both ways
      return (down ? -1 : 1) * compare(a, b) || i - j;
    });
    group.append(...rows.map(([row]) => row));
  }
}

function show() {
  const now = state();
  document.body.classList.toggle("decoder", now.decoder !== "");
  for (const ledger of document.querySelectorAll(".ledger")) ledger.hidden = ledger.id !== now.ledger;
  order(now);
  for (const entry of document.querySelectorAll("[data-text]")) {
    entry.toggleAttribute("data-hidden", !matches(entry, now));
  }
  for (const group of groups) group.hidden = !group.querySelector(".entry:not([data-hidden])");
  for (const plot of document.querySelectorAll(".plot-of")) plot.hidden = Boolean(now.arch) && plot.dataset.arch !== now.arch;
  const rows = [...document.querySelectorAll(`#${now.ledger} .entry`)];
  const shown = rows.filter((row) => !row.hasAttribute("data-hidden")).length;
  form.querySelector("output").textContent = `${shown} of ${rows.length} shown`;
  return now;
}

function changed() {
  const kept = Object.entries(show()).filter(([key, text]) => text && text !== DEFAULT[key]);
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

function restore() {
  const asked = new URLSearchParams(location.hash.slice(1));
  form.reset();
  for (const field of form.elements) {
    const text = asked.get(field.name);
    if (text === null) continue;
    if (field.type === "radio") field.checked = field.value === text || field.checked;
    else if (field.type === "checkbox") field.checked = text !== "";
    else field.value = text;
    if (field.selectedIndex === -1) field.selectedIndex = 0; // a value that this page does not have
  }
  const wanted = asked.get("sort") ?? DEFAULT.sort;
  sort = heads.some((head) => head.dataset.sort === wanted.replace(/^-/, "")) ? wanted : DEFAULT.sort;
  show();
}

for (const head of heads) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const key = head.dataset.sort;
    const [first, second] = head.classList.contains("down") ? [`-${key}`, key] : [key, `-${key}`];
    sort = sort === first ? second : first;
    changed();
  });
}
form.addEventListener("input", changed);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => { sort = DEFAULT.sort; setTimeout(changed); });
addEventListener("hashchange", restore);
document.body.classList.add("js");
form.hidden = false;
restore();
