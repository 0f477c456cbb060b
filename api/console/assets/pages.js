// The pages: the cluster with its changefeeds, and one changefeed.

import * as api from "./api.js";
import { feedActions, nodeActions } from "./actions.js";
import { band, clock, colours, dot, duration, el, keyText, lag, plot, rate, state, when } from "./draw.js";
import { nameOf, sampleSpanMs } from "./model.js";

const rowsMax = 200; // spans listed one by one
const feedRowsMax = 500;
const fencesShown = 50;

/** overview draws nodes and changefeeds. */
export function overview(model, filter) {
  const nodes = model.cluster.nodes;
  const colour = colours(nodes.map((node) => node.name));
  return [
    el("h1", {}, `Cluster ${model.cluster.cluster}`),
    el("section", { "aria-labelledby": "nodes" }, el("h2", { id: "nodes" }, "Nodes"),
      el("div", { class: "cards" }, nodes.map((node) => nodeCard(model, node, colour)))),
    el("section", { "aria-labelledby": "feeds" }, el("h2", { id: "feeds" }, "Changefeeds"), feedTable(model, filter)),
    el("section", { "aria-labelledby": "events" }, el("h2", { id: "events" }, "As it happens"), eventList(model.events.slice(0, fencesShown))),
  ];
}

function nodeCard(model, node, colour) {
  const unreachable = node.unreachable?.length ? `can't reach ${node.unreachable.map((id) => nodeName(model, id)).join(", ")}` : "";
  return el("article", { class: "card", "data-node": node.name },
    el("h3", {}, dot(colour(node.name)), node.name, node.coordinator && el("span", { class: "badge" }, "coordinator")),
    el("div", {}, state(node.liveness), " ", el("span", { class: "quiet" }, `${node.maintainers ?? "?"} maintainers, ${node.dispatchers ?? "?"} dispatchers`)),
    el("div", { class: "quiet" }, `${node.version}, up ${duration(Date.now() - Date.parse(node.started))}`),
    unreachable && el("div", { class: "error" }, unreachable),
    model.admin() && el("div", { class: "actions" }, nodeActions(model, node)));
}

function nodeName(model, id) {
  return model.cluster?.nodes.find((node) => node.id === id)?.name ?? id;
}

function feedTable(model, filter) {
  if (!model.feeds.length) {
    return el("p", { class: "quiet" }, "None yet. ", el("code", {}, "cdc-node changefeed create NAME --source URI --sink URI"), " makes one.");
  }
  const shown = model.feeds.filter((feed) => !filter || nameOf(feed).includes(filter));
  const rows = shown.slice(0, feedRowsMax).map((feed) => el("tr", { "data-feed": nameOf(feed) },
    el("td", {}, el("a", { href: `#/changefeeds/${encodeURIComponent(feed.namespace)}/${encodeURIComponent(feed.name)}` }, nameOf(feed))),
    el("td", { "data-label": "State" }, state(feed.state)),
    el("td", { "data-label": "Owner" }, feed.owner_name || "–"),
    el("td", { "data-label": "Lag" }, lag(feed.lag_seconds), small(model, feed, "lag", "lag", (v) => lag(v ?? undefined))),
    el("td", { "data-label": "Positions/s" }, rate(model.last(feed, "rate")), small(model, feed, "rate", "positions a second", rate)),
    el("td", { class: "number", "data-label": "Checkpoint" }, feed.checkpoint ?? "–"),
    el("td", { class: "wrap", "data-label": "Why" }, why(model, feed))));
  const rest = shown.length > feedRowsMax || model.more;
  return el("div", { class: "scroll" }, el("table", { class: "stack" },
    el("thead", {}, el("tr", {}, ["Name", "State", "Owner", "Lag", "Positions/s", "Checkpoint", "Why"].map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, rows)),
  rest && el("p", { class: "quiet" }, "There are more: narrow it down with the filter, or use ", el("code", {}, "cdc-node changefeed list"), "."));
}

function small(model, feed, what, label, text) {
  const samples = model.plotted(feed, what);
  return plot(samples, { span: sampleSpanMs, label: `${label} of ${nameOf(feed)} in the last 5 minutes, now ${text(samples.at(-1)?.value)}` });
}

/** why says what is wrong with a changefeed, if anything is. */
function why(model, feed) {
  if (feed.stalled) {
    const where = [feed.stalled.node && `node ${nodeName(model, feed.stalled.node)}`, feed.stalled.span && `span ${keyText(feed.stalled.span.start) || "from the beginning"}`];
    return [feed.stalled.reason, ...where].filter(Boolean).join(", ");
  }
  if (!feed.error) return "";
  const next = feed.error.next_try ? `; next try at ${clock(feed.error.next_try)}` : "";
  return el("span", { class: feed.state === "running" ? "quiet" : "error" }, `${feed.error.code}: ${feed.error.message}${next}`);
}

function eventList(events) {
  if (!events.length) return el("p", { class: "quiet" }, "Nothing since this page was opened.");
  return el("div", { class: "scroll" }, el("table", { class: "stack" },
    el("thead", {}, el("tr", {}, ["At", "What", "Changefeed", "Detail"].map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, events.map((event) => el("tr", { "data-event": event.kind },
      el("td", { "data-label": "At" }, event.at ? clock(event.at) : ""), el("td", { "data-label": "What" }, event.kind),
      el("td", { "data-label": "Changefeed" }, event.changefeed ?? ""), el("td", { class: "wrap", "data-label": "Detail" }, eventText(event)))))));
}

function eventText(event) {
  const from = event.from ? `${event.from} → ` : "";
  return [event.rule && `refused by ${event.rule}`, event.offered !== undefined && `offered ${event.offered}`,
    event.held !== undefined && `held ${event.held}`, event.epoch && `epoch ${event.epoch}`,
    (event.from || event.to) && `${from}${event.to ?? "nobody"}`, event.node && `on ${event.node}`, event.reason].filter(Boolean).join(", ");
}

/** Detail is the page of one changefeed. It asks for its cover and history itself. */
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
    if (spans.status === "fulfilled") this.spans = spans.value.items;
    if (past.status === "fulfilled") this.past = past.value.items;
  }

  draw() {
    const { model } = this;
    const feed = model.feed(this.id.namespace, this.id.name);
    const back = el("p", {}, el("a", { href: "#/" }, "← All changefeeds"));
    if (!feed) return [back, el("h1", {}, nameOf(this.id)), el("p", {}, "There is no changefeed of this name (any more).")];
    const colour = colours(model.cluster.nodes.map((node) => node.name));
    return [back,
      el("h1", {}, nameOf(feed), " ", state(feed.state)),
      model.admin() && el("div", { class: "actions" }, feedActions(model, feed)),
      el("p", { class: "error" }, why(model, feed)),
      this.figures(feed),
      el("h2", {}, "Cover"), this.cover(colour),
      el("h2", {}, "Ownership"), this.timeline(colour),
      el("h2", {}, "Fence rejections"), this.fences(feed),
      el("h2", {}, "Spec"), spec(feed)];
  }

  figures(feed) {
    const figure = (label, value, picture) => el("div", { class: "card figure" }, el("b", {}, value), el("span", {}, label), picture);
    return el("div", { class: "figures" },
      figure("lag", lag(feed.lag_seconds), small(this.model, feed, "lag", "lag", (v) => lag(v ?? undefined))),
      figure("positions a second", rate(this.model.last(feed, "rate")), small(this.model, feed, "rate", "positions a second", rate)),
      figure("checkpoint", feed.checkpoint ?? "–"), figure("resolved", feed.resolved ?? "–"),
      figure("epoch", feed.epoch ?? "–"), figure("owner", feed.owner_name || "nobody"));
  }

  cover(colour) {
    if (this.trouble) return el("p", { class: "quiet" }, this.trouble);
    if (!this.spans.length) return el("p", { class: "quiet" }, "No cover: nobody runs it now.");
    const names = [...new Set(this.spans.map((span) => span.node_name || span.node || ""))].sort();
    const count = (name) => this.spans.filter((span) => (span.node_name || span.node || "") === name).length;
    return el("div", {}, band(this.spans, colour),
      el("div", { class: "ends mono" }, el("span", {}, keyText(this.spans[0].start) || "the beginning"), el("span", {}, keyText(this.spans.at(-1).end) || "the end")),
      el("div", { class: "legend" }, names.map((name) => el("span", {}, name ? dot(colour(name)) : "▨", `${name || "nobody"}: ${count(name)}`))),
      this.fold("spans", `All ${this.spans.length} spans`, () => this.spanTable()));
  }

  fold(name, summary, inside) {
    const open = this.open.has(name);
    return el("details", {
      open, ontoggle: (event) => {
        this.open[event.target.open ? "add" : "delete"](name);
        if (event.target.open !== open) this.model.changed("state");
      },
    }, el("summary", {}, summary), open && inside());
  }

  spanTable() {
    return el("div", { class: "scroll" }, el("table", { class: "stack" },
      el("thead", {}, el("tr", {}, ["From", "To", "Node", "Token", "State", "Checkpoint", "Lag"].map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, this.spans.slice(0, rowsMax).map((span) => el("tr", {},
        el("td", { class: "mono wrap", "data-label": "From" }, keyText(span.start) || "beginning"), el("td", { class: "mono wrap", "data-label": "To" }, keyText(span.end) || "end"),
        el("td", { "data-label": "Node" }, span.node_name || span.node || "nobody"), el("td", { "data-label": "Token" }, span.epoch ? `${span.epoch}, ${span.seq ?? 0}` : "–"),
        el("td", { "data-label": "State" }, span.state + (span.snapshot_rows ? ` (${span.snapshot_rows} of about ${span.snapshot_total ?? "?"} rows)` : "")),
        el("td", { class: "number", "data-label": "Checkpoint" }, span.checkpoint ?? "–"), el("td", { "data-label": "Lag" }, lag(span.lag_seconds)))))),
    this.spans.length > rowsMax && el("p", { class: "quiet" }, `The first ${rowsMax}; `, el("code", {}, "cdc-node changefeed spans"), " lists all."));
  }

  timeline(colour) {
    if (!this.past.length) return el("p", { class: "quiet" }, "Nobody has owned it yet.");
    const held = (one) => (one.until ? Date.parse(one.until) : Date.now()) - Date.parse(one.from);
    const longest = Math.log1p(Math.max(...this.past.map(held), 1));
    return el("div", { class: "scroll" }, el("table", { class: "stack", id: "timeline" },
      el("thead", {}, el("tr", {}, ["Epoch", "Owner", "Why", "From", "Held for", "Final checkpoint"].map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, this.past.map((one) => el("tr", { "data-epoch": one.epoch },
        el("td", { class: "number", "data-label": "Epoch" }, one.epoch),
        el("td", { "data-label": "Owner" }, one.owner ? [dot(colour(one.owner_name)), " ", one.owner_name] : "nobody"),
        el("td", { "data-label": "Why" }, one.reason, one.ended && one.ended !== one.reason && ` (ended: ${one.ended})`,
          one.unanswered && " (did not answer in time)"),
        el("td", { "data-label": "From" }, when(one.from)),
        el("td", { "data-label": "Held for" }, duration(held(one)), bar(Math.log1p(held(one)) / longest, colour(one.owner_name))),
        el("td", { class: "number", "data-label": "Final checkpoint" }, one.final_checkpoint ?? (one.until ? "–" : "current")))))));
  }

  fences(feed) {
    const list = this.model.events.filter((event) => event.kind === "fence" && event.changefeed === nameOf(feed)).slice(0, fencesShown);
    if (!list.length) return el("p", { class: "quiet" }, "None since this page was opened. One is an old owner's message or write that was turned away.");
    return eventList(list);
  }
}

function bar(share, colour) {
  const line = el("span", { class: "bar", "aria-hidden": "true" });
  line.style.width = `${Math.max(2, share * 100)}%`;
  line.style.background = colour;
  return line;
}

function spec(feed) {
  const rows = [["uid", feed.uid], ["source", feed.source], ["sink", feed.sink], ["start", feed.start], ["start position", feed.start_position],
    ...Object.entries(feed.options ?? {}), ["created", feed.created && when(feed.created)], ["revision", feed.revision]];
  return el("div", { class: "scroll" }, el("table", {}, el("tbody", {}, rows.filter(([, value]) => value).map(([name, value]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "mono wrap" }, value))))));
}
