// What an admin can do, each asked about first in a dialog that says what will happen.

import * as api from "./api.js";
import { el, keyText } from "./draw.js";
import { nameOf } from "./model.js";

const dialog = document.getElementById("ask");
const noteMs = 6000;

/** note tells something in the corner, for a while. */
export function note(text, bad = false) {
  const box = el("div", { class: bad ? "note error" : "note" }, text);
  document.getElementById("notes").append(box);
  setTimeout(() => box.remove(), noteMs);
}

function say(err) {
  return [err.message, err.cure].filter(Boolean).join(". ");
}

/** ask shows a dialog; `run` gets its form's values, and a refusal stays in the dialog with its cure. */
export function ask({ title, body, yes, danger, run }) {
  const form = document.getElementById("ask-form");
  const error = document.getElementById("ask-error");
  const confirm = document.getElementById("ask-yes");
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-body").replaceChildren(...[body].flat().filter(Boolean));
  confirm.textContent = yes;
  confirm.className = danger ? "primary danger" : "primary";
  confirm.disabled = false;
  error.hidden = true;
  document.getElementById("ask-no").onclick = () => dialog.close();
  form.onsubmit = async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    try {
      await run(Object.fromEntries(new FormData(form)));
      dialog.close();
    } catch (err) {
      error.textContent = say(err);
      error.hidden = false;
      confirm.disabled = false;
    }
  };
  dialog.showModal();
}

function field(label, input) {
  return el("div", {}, el("label", { for: input.id }, label), input);
}

/** feedActions returns the buttons of one changefeed. */
export function feedActions(model, feed, spans) {
  const name = nameOf(feed);
  const done = (text) => {
    note(text);
    model.soon();
  };
  const simple = (label, verb, text, danger) => el("button", {
    type: "button", "data-action": verb, class: danger ? "danger" : null,
    onclick: () => ask({
      title: `${label} ${name}?`, body: el("p", {}, text), yes: label, danger,
      run: async () => {
        await (verb === "remove" ? api.remove(feed) : api.act(feed, verb));
        done(`${name}: ${label.toLowerCase()} asked for`);
      },
    }),
  }, label);
  const paused = feed.desired === "paused";
  return [
    paused ? simple("Resume", "resume", "It goes on from its checkpoint, under a new epoch.")
      : simple("Pause", "pause", "Its owner stops at a final checkpoint and releases it. Nothing is lost."),
    el("button", { type: "button", "data-action": "move", disabled: paused, onclick: () => move(model, feed, done) }, "Move…"),
    el("button", { type: "button", "data-action": "split", disabled: paused, onclick: () => split(feed, spans, done) }, "Split…"),
    simple("Remove", "remove", "Its claims and records go, and what it wrote stays. The name is free afterwards.", true),
  ];
}

function move(model, feed, done) {
  const nodes = (model.cluster?.nodes ?? []).filter((node) => node.liveness === "alive" && node.id !== feed.owner);
  const choice = el("select", { id: "move-to", name: "to", required: true }, nodes.map((node) => el("option", { value: node.name }, node.name)));
  ask({
    title: `Move ${nameOf(feed)}`,
    body: [el("p", {}, "The owner releases it at a final checkpoint, and the node chosen here goes on. Dispatchers run on meanwhile."),
      nodes.length ? field("To node", choice) : el("p", { class: "error" }, "There is no other node that takes work.")],
    yes: "Move",
    run: async (values) => {
      await api.act(feed, "move", { to: values.to || "" });
      done(`${nameOf(feed)}: move to ${values.to} asked for`);
    },
  });
}

function split(feed, spans, done) {
  const borders = spans.slice(1, 9).map((span) => keyText(span.start)).join(", ");
  ask({
    title: `Split ${nameOf(feed)}`,
    body: [el("p", {}, "The span that holds the key stops at one position, and two go on from there. Nothing is replayed."),
      borders && el("p", { class: "quiet" }, `Borders now: ${borders}${spans.length > 9 ? ", …" : ""}`),
      field("At key (text, or base64:…)", el("input", { id: "split-at", name: "at", required: true, autocomplete: "off", placeholder: spans.length ? keyText(spans[0].start) : "" }))],
    yes: "Split",
    run: async (values) => {
      const key = values.at.startsWith("base64:") ? { base64: values.at.slice("base64:".length) } : values.at;
      await api.act(feed, "split", { at: [key] });
      done(`${nameOf(feed)}: split asked for`);
    },
  });
}

/** nodeActions returns the buttons of one node. */
export function nodeActions(model, node) {
  const draining = node.liveness === "draining";
  const label = draining ? "Undrain" : "Drain";
  return el("button", {
    type: "button", "data-action": label.toLowerCase(), disabled: node.liveness === "stopping",
    onclick: () => ask({
      title: `${label} ${node.name}?`,
      body: el("p", {}, draining ? "It takes work again." : "Its changefeeds and spans move to other nodes, one by one, and it gets no new ones until it is undrained, over restarts too."),
      yes: label,
      run: async () => {
        await (draining ? api.undrain(node.name) : api.drain(node.name));
        note(`${node.name}: ${label.toLowerCase()} asked for`);
        model.soon();
      },
    }),
  }, label);
}

/** loginPage asks for a token once; the node answers with a cookie that scripts can't read. */
export function loginPage(model) {
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const input = el("input", { id: "token", name: "token", type: "password", required: true, autocomplete: "current-password" });
  return el("form", {
    class: "card", id: "login", onsubmit: async (event) => {
      event.preventDefault();
      try {
        await api.login(input.value);
        model.needsLogin = false;
        model.soon();
      } catch (err) {
        error.textContent = say(err);
        error.hidden = false;
        input.value = "";
        input.focus();
      }
    },
  }, el("h1", {}, "Log in"), el("p", { class: "quiet" }, "A token from the node's token file. Admins can act; viewers can look."),
  field("Token", input), error, el("div", { class: "buttons" }, el("button", { class: "primary" }, "Log in")));
}
