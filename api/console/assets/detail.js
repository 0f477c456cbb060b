// The page of one changefeed: figures, cover, ownerships, rejections, and what it was made with.

import * as api from "./api.js";
import { feedActions } from "./actions.js";
import { colours, count, dot, duration, el, keyText, lag, rate, state, when } from "./draw.js";
import { nameOf } from "./model.js";
import { eventList, small, why } from "./pages.js";
import { band, borders, heldFor, timeline } from "./pictures.js";

const rowsMax = 200; // spans listed one by one
const fencesShown = 50;

/** Detail asks for the cover and the history itself. */
export class Detail {
  constructor(model, namespace, name) {
    this.model = model;
    this.id = { namespace, name };
    this.spans = [];
    this.past = [];
    this.open = new Set(); // details that the reader unfolded
  }

  async refresh() {
    const [spans, past] = await Promise.allSettled([api.spans(this.id), api.history(this.id)]);
    this.trouble = spans.status === "rejected" ? spans.reason.message : "";
    if (spans.status === "fulfilled") this.spans = spans.value;
    if (past.status === "fulfilled") this.past = past.value;
  }

  draw() {
    const { model } = this;
    const feed = model.feed(this.id.namespace, this.id.name);
    const back = el("p", { class: "back" }, el("a", { href: "#/" }, "← All changefeeds"));
    if (!feed) return [back, el("h1", {}, nameOf(this.id)), el("p", {}, "There is no changefeed of this name (any more).")];
    const colour = colours([...model.cluster.nodes, ...this.past.map((one) => ({ name: one.owner_name }))].map((node) => node.name).filter(Boolean));
    const reason = why(model, feed);
    return [back,
      el("div", { class: "head" }, el("h1", {}, el("span", { class: "namespace" }, `${feed.namespace}/`), feed.name), state(feed.state), el("span", { class: "spring" }),
        model.admin() && el("div", { class: "actions" }, feedActions(model, feed, this.spans))),
      reason && el("p", { class: `banner ${feed.state}` }, reason),
      this.figures(feed, colour),
      el("h2", {}, "Cover of the key space"), this.cover(colour),
      el("h2", {}, "Ownership"), this.ownership(colour),
      el("h2", {}, "Fence rejections"), this.fences(feed),
      el("h2", {}, "Spec"), spec(feed)];
  }

  figures(feed, colour) {
    const card = (label, value, picture) => el("div", { class: picture ? "card figure big" : "card figure" },
      el("span", { class: "label" }, label), el("b", {}, value), picture);
    const shown = feed.state === "paused" ? "–" : lag(feed.lag_seconds);
    const speed = rate(this.model.last(feed, "rate"));
    return el("div", { class: "figures" },
      card("Lag", shown, small(this.model, feed, "lag", "lag", shown, true)),
      card("Changes a second", speed, small(this.model, feed, "rate", "changes a second", speed, true)),
      card("Owner", feed.owner_name ? [dot(colour(feed.owner_name)), " ", feed.owner_name] : "nobody"),
      card("Epoch", `${feed.epoch ?? "–"}`), card("Checkpoint", feed.checkpoint ?? "–"), card("Resolved", feed.resolved ?? "–"),
      feed.sync_point && card("Sync point", feed.sync_point));
  }

  cover(colour) {
    if (this.trouble) return el("p", { class: "quiet" }, this.trouble);
    if (!this.spans.length) return el("p", { class: "quiet" }, "No cover: nobody runs it now.");
    const names = [...new Set(this.spans.map((span) => span.node_name || span.node || ""))].sort();
    const on = (name) => this.spans.filter((span) => (span.node_name || span.node || "") === name).length;
    return el("div", {}, band(this.spans, colour), borders(this.spans),
      el("div", { class: "legend" }, names.map((name) => el("span", {}, name ? dot(colour(name)) : "▨", `${name || "nobody"}: ${count(on(name), "span")}`))),
      this.fold("spans", this.spans.length === 1 ? "The span" : `All ${this.spans.length} spans`, () => this.spanTable(colour)));
  }

  fold(name, summary, inside) {
    const open = this.open.has(name);
    return el("details", {
      open, id: `fold-${name}`, ontoggle: (event) => {
        this.open[event.target.open ? "add" : "delete"](name);
        if (event.target.open !== open) this.model.changed("view");
      },
    }, el("summary", {}, summary), open && inside());
  }

  spanTable(colour) {
    const node = (span) => (span.node_name || span.node ? el("span", { class: "who" }, dot(colour(span.node_name)), span.node_name || span.node) : "nobody");
    return el("div", {}, el("table", { class: "stack" },
      el("thead", {}, el("tr", {}, ["From", "To", "Node", "Token", "State", "Checkpoint", "Lag"].map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, this.spans.slice(0, rowsMax).map((span) => el("tr", {},
        el("td", { class: "mono wrap", "data-label": "From" }, keyText(span.start) || "beginning"), el("td", { class: "mono wrap", "data-label": "To" }, keyText(span.end) || "end"),
        el("td", { "data-label": "Node" }, node(span)), el("td", { "data-label": "Token" }, span.epoch ? `${span.epoch}, ${span.seq ?? 0}` : "–"),
        el("td", { "data-label": "State" }, span.state + (span.snapshot_rows ? ` (${span.snapshot_rows} of about ${span.snapshot_total ?? "?"} rows)` : "")),
        el("td", { "data-label": "Checkpoint" }, span.checkpoint ?? "–"), el("td", { "data-label": "Lag" }, lag(span.lag_seconds)))))),
    this.spans.length > rowsMax && el("p", { class: "quiet" }, `The first ${rowsMax}; `, el("code", {}, "cdc-node changefeed spans"), " lists all."));
  }

  ownership(colour) {
    if (!this.past.length) return el("p", { class: "quiet" }, "Nobody has owned it yet.");
    return el("div", {}, timeline(this.past, colour), el("table", { class: "stack", id: "timeline" },
      el("thead", {}, el("tr", {}, ["Epoch", "Owner", "Why", "From", "Held for", "Final checkpoint"].map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, this.past.map((one) => el("tr", { "data-epoch": one.epoch, "data-key": `epoch:${one.epoch}` },
        el("td", { "data-label": "Epoch" }, `${one.epoch}`),
        el("td", { "data-label": "Owner" }, one.owner ? el("span", { class: "who" }, dot(colour(one.owner_name)), one.owner_name) : "nobody"),
        el("td", { "data-label": "Why" }, one.reason),
        el("td", { "data-label": "From" }, when(one.from)),
        el("td", { "data-label": "Held for" }, duration(heldFor(one)), !one.until && ", now"),
        el("td", { "data-label": "Final checkpoint" }, one.final_checkpoint ?? "–"))))));
  }

  fences(feed) {
    const list = this.model.events.filter((event) => event.kind === "fence" && event.changefeed === nameOf(feed)).slice(0, fencesShown);
    if (!list.length) return el("p", { class: "quiet" }, "None since this page was opened. One is an old owner's message that was turned away.");
    return el("div", { id: "fences" }, eventList(this.model, list));
  }
}

function spec(feed) {
  const rows = [["uid", feed.uid], ["source", feed.source], ["sink", feed.sink], ["start", feed.start], ["start position", feed.start_position],
    ...Object.entries(feed.options ?? {}), ["created", feed.created && when(feed.created)], ["revision", feed.revision]];
  return el("dl", { class: "card spec" }, rows.filter(([, value]) => value).map(([name, value]) =>
    [el("dt", {}, name), el("dd", { class: "mono" }, value)]));
}
