// The console: what the address asks for, drawn again when something changed.

import * as api from "./api.js";
import { loginPage, note } from "./actions.js";
import { Detail } from "./detail.js";
import { clock, duration, patch } from "./draw.js";
import { Model } from "./model.js";
import { overview } from "./pages.js";

const model = new Model();
const page = document.getElementById("page");
let detail = null;
let filter = "";

function route() {
  const [, room, namespace, name] = location.hash.split("/").map(decodeURIComponent);
  if (room !== "changefeeds" || !name) {
    detail = null;
    window.scrollTo(0, 0);
  } else if (detail?.id.namespace !== namespace || detail.id.name !== name) {
    detail = new Detail(model, namespace, name);
    window.scrollTo(0, 0);
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
  document.getElementById("cluster").textContent = model.cluster?.cluster ?? "";
  const link = document.getElementById("link");
  link.textContent = model.goneSince || !model.cluster ? "" : model.live ? "live" : "polling";
  link.className = model.live ? "live" : "";
  if (model.needsLogin) {
    if (!document.getElementById("login")) page.replaceChildren(loginPage(model));
    return;
  }
  if (!model.cluster) return;
  document.title = `${detail ? detail.id.name : model.cluster.cluster} – Fencerow`;
  patch(page, (detail ? detail.draw() : overview(model, filter, filtered)).filter(Boolean));
}

function filtered(event) {
  filter = event.target.value;
  draw();
}

function gone() {
  const box = document.getElementById("gone");
  box.hidden = !model.goneSince;
  if (model.goneSince) {
    const said = model.answers ? "The node can't say" : "No answer";
    box.textContent = `${said} since ${clock(model.goneSince)} (${duration(Date.now() - model.goneSince)}): what is shown is from before. ${model.problem}`;
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
