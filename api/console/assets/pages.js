// The first page: the cluster, its nodes and its changefeeds.

import { nodeActions } from "./actions.js";
import { clock, colours, count, dot, duration, el, keyText, lag, rate, state } from "./draw.js";
import { nameOf, sampleSpanMs } from "./model.js";
import { plot } from "./pictures.js";

const feedRowsMax = 500;
const eventsShown = 50;
const plotSpanMin = 60_000; // a plot is of a minute at least, and grows to what is kept

/** overview draws nodes and changefeeds. */
export function overview(model, filter, onFilter) {
  const nodes = model.cluster.nodes.toSorted((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const colour = colours(nodes.map((node) => node.name));
  return [
    el("h1", {}, "Cluster ", model.cluster.cluster),
    summary(model),
    el("section", { "aria-labelledby": "nodes" }, el("h2", { id: "nodes" }, "Nodes"),
      el("div", { class: "cards" }, nodes.map((node) => nodeCard(model, node, colour)))),
    el("section", { "aria-labelledby": "feeds" },
      el("div", { class: "head" }, el("h2", { id: "feeds" }, "Changefeeds"), (model.feeds.length >= 10 || filter) && el("input", {
        id: "filter", type: "search", placeholder: "Filter by name", "aria-label": "Filter changefeeds by name", oninput: onFilter,
      })),
      feedTable(model, filter, colour)),
    el("section", { "aria-labelledby": "events" }, el("h2", { id: "events" }, "As it happens"), eventList(model, model.events.slice(0, eventsShown))),
  ];
}

const bad = ["failed", "stalled", "retrying"];

/** summary says in one line whether anything is wrong. */
function summary(model) {
  const states = new Map();
  for (const feed of model.feeds) states.set(feed.state, (states.get(feed.state) ?? 0) + 1);
  const order = [...bad, "starting", "removing", "paused", "running"].filter((name) => states.has(name));
  const rates = model.feeds.map((feed) => model.last(feed, "rate")).filter((value) => value !== null && value !== undefined);
  const lags = model.feeds.filter((feed) => feed.state === "running").map((feed) => feed.lag_seconds).filter((value) => value !== undefined);
  const item = (label, ...value) => el("div", {}, el("dt", {}, label), el("dd", {}, value));
  return el("dl", { class: "summary" },
    item("Changefeeds", order.length ? order.map((name) => el("span", { class: "tally" }, `${states.get(name)} `, state(name))) : "none"),
    item("Changes a second", rates.length ? rate(rates.reduce((sum, value) => sum + value, 0)) : "–"),
    item("Highest lag", lags.length ? lag(Math.max(...lags)) : "–"),
    item("Coordinator", model.cluster.coordinator ? `${model.cluster.coordinator.name}, term ${model.cluster.coordinator.term}` : "nobody"));
}

function nodeCard(model, node, colour) {
  const unreachable = node.unreachable?.length ? `can't reach ${node.unreachable.map((id) => model.nodeName(id)).join(", ")}` : "";
  return el("article", { class: "card node", "data-node": node.name, "data-key": node.id },
    el("div", { class: "head" },
      el("h3", {}, dot(colour(node.name)), node.name), node.liveness !== "alive" && state(node.liveness),
      node.coordinator && el("span", { class: "badge" }, "coordinator"), el("span", { class: "spring" }),
      model.admin() && nodeActions(model, node)),
    el("div", {}, node.maintainers === undefined ? el("span", { class: "error" }, "does not answer")
      : `${count(node.maintainers, "changefeed")}, ${count(node.dispatchers, "dispatcher")}`),
    el("div", { class: "quiet" }, `${node.version}, up ${duration(Date.now() - Date.parse(node.started))}, ${node.http}`),
    unreachable && el("div", { class: "error" }, unreachable));
}

const columns = ["Name", "State", "Owner", "Lag", "Changes/s", "Checkpoint"];

function feedTable(model, filter, colour) {
  if (!model.feeds.length) {
    return el("p", { class: "quiet" }, "None yet. ", el("code", {}, "cdc-node changefeed create NAME --source URI --sink URI"), " makes one.");
  }
  const shown = model.feeds.filter((feed) => !filter || nameOf(feed).includes(filter));
  const rest = shown.length > feedRowsMax || model.more;
  return el("div", {}, el("table", { class: "stack feeds" },
    el("thead", {}, el("tr", {}, columns.map((text) => el("th", { scope: "col", class: text === "Checkpoint" ? "number" : null }, text)))),
    shown.slice(0, feedRowsMax).map((feed) => feedRows(model, feed, colour))),
  rest && el("p", { class: "quiet" }, "There are more: narrow it down with the filter, or use ", el("code", {}, "cdc-node changefeed list"), "."));
}

/** feedRows are a row of figures, and where something is wrong a row that says what. */
function feedRows(model, feed, colour) {
  const reason = why(model, feed);
  const figure = (what, text, label) => el("div", { class: "pair" }, el("span", {}, text), small(model, feed, what, label, text));
  return el("tbody", { "data-feed": nameOf(feed), "data-key": `feed:${nameOf(feed)}` }, el("tr", {},
    el("td", {}, el("a", { href: `#/changefeeds/${encodeURIComponent(feed.namespace)}/${encodeURIComponent(feed.name)}` },
      el("span", { class: "namespace" }, `${feed.namespace}/`), feed.name)),
    el("td", { "data-label": "State" }, state(feed.state)),
    el("td", { "data-label": "Owner" }, feed.owner_name ? el("span", { class: "who" }, dot(colour(feed.owner_name)), feed.owner_name) : "–"),
    el("td", { "data-label": "Lag" }, figure("lag", feed.state === "paused" ? "–" : lag(feed.lag_seconds), "lag")),
    el("td", { "data-label": "Changes/s" }, figure("rate", rate(model.last(feed, "rate")), "changes a second")),
    el("td", { class: "number", "data-label": "Checkpoint" }, feed.checkpoint ?? "–")),
  reason && el("tr", { class: `why ${feed.state}` }, el("td", { colspan: columns.length }, reason)));
}

/** small is the plot of one figure of a changefeed. */
export function small(model, feed, what, label, text, wide = false) {
  const samples = model.plotted(feed, what);
  const known = samples.length ? samples.at(-1).at - samples[0].at : 0;
  const span = Math.min(sampleSpanMs, Math.max(plotSpanMin, known));
  return plot(samples, { span, wide, label: `${label} of ${nameOf(feed)} in the last ${duration(span)}, now ${text}` });
}

/** why says what is wrong with a changefeed, if anything is. */
export function why(model, feed) {
  if (feed.stalled) {
    const where = [feed.stalled.node && `node ${model.nodeName(feed.stalled.node)}`, feed.stalled.span && `span ${keyText(feed.stalled.span.start) || "from the beginning"}`];
    return el("span", {}, el("b", {}, "stalled: "), [feed.stalled.reason, ...where].filter(Boolean).join(", "));
  }
  if (!feed.error) return null;
  const next = feed.error.next_try ? ` Next try at ${clock(feed.error.next_try)}.` : "";
  const message = feed.error.message.replace(`${feed.error.code}: `, "");
  return el("span", { class: feed.state === "running" ? "quiet" : "" }, el("b", {}, `${feed.error.code} `), `${message}.${next}`);
}

/** eventList tells events, the newest first. */
export function eventList(model, events) {
  if (!events.length) return el("p", { class: "quiet" }, "Nothing since this page was opened.");
  return el("ol", { class: "events" }, events.map((event) => el("li", { class: `on-${event.kind}`, "data-event": event.kind, "data-key": `event:${event.seen}` },
    el("time", { class: "quiet" }, event.at ? clock(event.at) : ""), el("span", { class: "kind" }, event.kind),
    event.changefeed && el("b", {}, event.changefeed), el("span", {}, eventText(model, event)))));
}

function eventText(model, event) {
  const named = (word) => model.nodeName(word);
  switch (event.kind) {
    case "fence":
      return [`${event.rule} refused ${event.reason || "a message"}`, event.from && `from ${named(event.from)}`, event.node && `on ${named(event.node)}`,
        `epoch ${event.offered ?? 0} was offered, ${event.held ?? 0} is held`].filter(Boolean).join(", ");
    case "ownership":
      return [event.to ? `${named(event.to)} owns it` : "nobody owns it", event.epoch && `epoch ${event.epoch}`, event.reason].filter(Boolean).join(", ");
    case "node":
      return `${event.node_name || named(event.node)} ${event.to ? `is ${event.to}` : "is gone"}`;
    default:
      return [event.to ? `${event.from ? `${event.from} → ` : ""}${event.to}` : "is gone", event.reason].filter(Boolean).join(", ");
  }
}
