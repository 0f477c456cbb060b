// What is known of the cluster, asked for again and again, with samples for the plots. Pages read it; nothing here draws.

import * as api from "./api.js";

export const pollMs = 2000;
export const sampleSpanMs = 5 * 60_000; // what plots show
const rateSamples = 3;
const samplesMax = sampleSpanMs / pollMs;
const feedsMax = 2000; // asked for in one round; more are said to be there, and not drawn
const eventsMax = 200;

export const kinds = ["ownership", "state", "fence", "node"];

export class Model {
  constructor() {
    this.role = "";
    this.openToAll = false; // no tokens are asked for
    this.cluster = null;
    this.feeds = [];
    this.more = false;
    this.samples = new Map(); // name → [{at, epoch, changes, lag, rate}]
    this.names = new Map(); // of every node that was ever seen, by id
    this.events = []; // newest first
    this.seen = 0; // events, ever
    this.goneSince = null;
    this.answers = false; // the node, though with a problem
    this.needsLogin = false;
    this.live = false; // the stream of events is open
    this.listeners = new Set();
    this.stopEvents = null;
  }

  onChange(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  changed(what) {
    for (const listener of this.listeners) listener(what);
  }

  /** run asks until the page is closed. */
  async run() {
    for (;;) {
      if (!document.hidden || this.cluster === null) await this.refresh();
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, pollMs);
      });
    }
  }

  /** soon asks again at once, after an action. */
  soon() {
    this.wake?.();
  }

  async refresh() {
    try {
      if (!this.role) {
        const session = await api.session();
        this.role = session.role || "";
        this.openToAll = Boolean(session.open);
        this.needsLogin = !this.role;
      }
      if (this.needsLogin) return;
      const [cluster, feeds] = await Promise.all([api.cluster(), this.allFeeds()]);
      this.cluster = cluster;
      this.feeds = feeds;
      for (const node of cluster.nodes) this.names.set(node.id, node.name);
      this.sample();
      this.goneSince = null;
      this.stopEvents ??= api.events(kinds, (event) => this.heard(event), (open) => this.opened(open));
    } catch (err) {
      this.failed(err);
    } finally {
      this.changed("state");
    }
  }

  async allFeeds() {
    const feeds = [];
    let after = "";
    this.more = false;
    do {
      const page = await api.changefeeds(after);
      feeds.push(...page.items);
      after = page.next || "";
    } while (after && feeds.length < feedsMax);
    this.more = Boolean(after);
    return feeds;
  }

  failed(err) {
    if (err instanceof api.Problem && err.status === 401) {
      this.goneSince = null; // it answers
      this.loggedOut();
      return;
    }
    this.answers = err instanceof api.Problem;
    this.problem = [err.message, err.cure].filter(Boolean).join(". ");
    this.goneSince ??= Date.now();
  }

  loggedOut() {
    this.role = "";
    this.needsLogin = true;
    this.stopEvents?.();
    this.stopEvents = null;
    this.live = false;
  }

  sample() {
    const at = Date.now();
    const seen = new Set();
    for (const feed of this.feeds) {
      const name = nameOf(feed);
      seen.add(name);
      const list = this.samples.get(name) ?? [];
      const now = { at, epoch: feed.epoch, changes: feed.changes ?? null, lag: feed.checkpoint === undefined || feed.state === "paused" ? null : feed.lag_seconds ?? null };
      list.push({ ...now, rate: rateOf(list, now) });
      if (list.length > samplesMax) list.shift();
      this.samples.set(name, list);
    }
    for (const name of this.samples.keys()) if (!seen.has(name)) this.samples.delete(name);
  }

  nodeName(id) {
    return this.names.get(id) ?? id;
  }

  heard(event) {
    if (event.node_name) this.names.set(event.node, event.node_name);
    this.events.unshift({ ...event, seen: ++this.seen });
    this.events.length = Math.min(this.events.length, eventsMax);
    this.changed("event");
    if (event.kind !== "fence") this.soon();
  }

  opened(open) {
    this.live = open;
    this.changed("link");
  }

  admin() {
    return this.role === "admin";
  }

  feed(namespace, name) {
    return this.feeds.find((one) => one.namespace === namespace && one.name === name);
  }

  plotted(feed, what) {
    return (this.samples.get(nameOf(feed)) ?? []).map((sample) => ({ at: sample.at, value: sample[what] }));
  }

  last(feed, what) {
    return this.samples.get(nameOf(feed))?.at(-1)?.[what];
  }
}

/** rateOf is changes a second over some samples of one ownership, so that a plot shows a trend and no noise. */
function rateOf(list, now) {
  const first = list.slice(-rateSamples).find((sample) => sample.epoch === now.epoch && sample.changes !== null);
  if (!first || now.changes === null || now.at <= first.at) return null;
  return (Math.max(0, now.changes - first.changes) * 1000) / (now.at - first.at);
}

export function nameOf(feed) {
  return `${feed.namespace}/${feed.name}`;
}
