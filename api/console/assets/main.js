// The console: what the address asks for, drawn again when something changed.

import * as api from "./api.js";
import { loginPage, note } from "./actions.js";
import { clock, duration, el } from "./draw.js";
import { Model } from "./model.js";
import { Detail, overview } from "./pages.js";

const model = new Model();
const page = document.getElementById("page");
let detail = null;
let filter = "";

function route() {
  const [, room, namespace, name] = location.hash.split("/").map(decodeURIComponent);
  if (room !== "changefeeds" || !name) {
    detail = null;
  } else if (detail?.id.namespace !== namespace || detail.id.name !== name) {
    detail = new Detail(model, namespace, name);
    refreshDetail();
  }
  draw();
  page.focus({ preventScroll: true });
}

async function refreshDetail() {
  const shown = detail;
  await shown?.refresh();
  if (shown === detail) draw();
}

function draw() {
  gone();
  document.getElementById("leave").hidden = !model.role || model.openToAll;
  document.getElementById("cluster").textContent = model.cluster ? `${model.cluster.cluster}, coordinator ${model.cluster.coordinator?.name ?? "none"}` : "";
  document.getElementById("link").textContent = model.goneSince || !model.cluster ? "" : model.live ? "● live" : "○ polling";
  if (model.needsLogin) {
    if (!document.getElementById("login")) page.replaceChildren(loginPage(model));
    return;
  }
  if (!model.cluster) return;
  document.title = `${detail ? detail.id.name : model.cluster.cluster} – Fencerow`;
  const view = detail ? detail.draw() : overview(model, filter);
  keepFocus(() => page.replaceChildren(...view.filter(Boolean)));
  if (!detail) addFilter();
}

function addFilter() {
  if (model.feeds.length < 10 && !filter) return;
  const input = el("input", { id: "filter", type: "search", placeholder: "Filter by name", "aria-label": "Filter changefeeds by name", value: filter,
    oninput: (event) => { filter = event.target.value; draw(); } });
  document.getElementById("feeds").after(input);
}

/** keepFocus redraws without taking the keyboard or the place from under the reader. */
function keepFocus(redraw) {
  const active = document.activeElement;
  const inside = page.contains(active) && active !== page;
  const path = inside ? selector(active) : "";
  const caret = active instanceof HTMLInputElement ? active.selectionStart : null;
  const { scrollX, scrollY } = window;
  redraw();
  if (path) {
    queueMicrotask(() => {
      const again = page.querySelector(path);
      again?.focus({ preventScroll: true });
      if (caret !== null && again instanceof HTMLInputElement) again.setSelectionRange(caret, caret);
    });
  }
  window.scrollTo(scrollX, scrollY);
}

function selector(node) {
  if (node.id) return `#${CSS.escape(node.id)}`;
  const steps = [];
  for (let at = node; at && at !== page; at = at.parentElement) {
    steps.unshift(`${at.localName}:nth-child(${[...at.parentElement.children].indexOf(at) + 1})`);
  }
  return steps.join(">");
}

function gone() {
  const box = document.getElementById("gone");
  box.hidden = !model.goneSince;
  if (model.goneSince) {
    box.textContent = `No answer since ${clock(model.goneSince)} (${duration(Date.now() - model.goneSince)}): what is shown is from before. ${model.problem}`;
  }
}

function theme() {
  const now = document.documentElement.classList.contains("dark") || (!document.documentElement.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
  setTheme(now ? "light" : "dark");
}

function setTheme(name) {
  document.documentElement.classList.remove("light", "dark");
  if (name) document.documentElement.classList.add(name);
  try {
    localStorage.setItem("theme", name ?? "");
  } catch { /* a browser that keeps nothing still switches */ }
}

function keptTheme() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

document.getElementById("theme").addEventListener("click", theme);
document.getElementById("leave").addEventListener("click", async () => {
  try {
    await api.logout();
    model.loggedOut();
    draw();
  } catch (err) {
    note(err.message, true);
  }
});
setTheme(keptTheme());
window.addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => model.soon());
model.onChange((what) => {
  if (what === "state" && detail && !model.needsLogin && !model.goneSince) refreshDetail();
  else draw();
});
route();
model.run();
