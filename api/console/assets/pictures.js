// Small pictures: a plot of samples, the cover as a band over the key space, and who owned a changefeed over time.

import { duration, el, keyText } from "./draw.js";

const space = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const plotWidth = 120;
const plotHeight = 26;

/** plot draws samples [{at, value}] of the last `span` milliseconds; what it says for those who don't see is its label. */
export function plot(samples, { span, label, wide }) {
  const known = samples.filter((sample) => sample.value !== null && sample.value !== undefined);
  const now = samples.at(-1)?.at ?? 0;
  const picture = svg("svg", {
    class: wide ? "plot wide" : "plot", viewBox: `0 0 ${plotWidth} ${plotHeight}`, preserveAspectRatio: "none", role: "img", "aria-label": label,
  });
  const title = svg("title");
  title.textContent = label;
  const bottom = plotHeight - 1;
  picture.append(title, svg("path", { class: "ground", d: `M0 ${bottom}H${plotWidth}` }));
  if (known.length < 2) return picture;
  const top = Math.max(...known.map((sample) => sample.value), 1e-9);
  const x = (sample) => (plotWidth - ((now - sample.at) / span) * plotWidth).toFixed(1);
  const y = (sample) => (bottom - (sample.value / top) * (plotHeight - 4)).toFixed(1);
  const line = known.map((sample, i) => `${i ? "L" : "M"}${x(sample)} ${y(sample)}`).join("");
  picture.append(
    svg("path", { class: "area", d: `${line}L${x(known.at(-1))} ${bottom}L${x(known[0])} ${bottom}Z` }),
    svg("path", { class: "line", d: line }),
  );
  return picture;
}

export const bandSpansMax = 400; // more are drawn as groups of neighbours
const bandLabelsMax = 12;

/** band draws the cover over the key space, in its order; each span as wide as the others. */
export function band(spans, colour) {
  const size = Math.max(1, Math.ceil(spans.length / bandSpansMax));
  const parts = [];
  for (let i = 0; i < spans.length; i += size) {
    const group = spans.slice(i, i + size);
    const first = group[0];
    const name = first.node_name || first.node || "";
    const text = group.length > 1 ? `${group.length} spans from ${keyText(first.start) || "the beginning"}` : spanText(first);
    const part = el("div", { class: name ? `part ${first.state}` : "part nobody", title: text, "data-node": name },
      spans.length <= bandLabelsMax && (name || "nobody"));
    part.style.background = name ? colour(name) : "";
    part.style.flexGrow = group.length;
    parts.push(part);
  }
  const owners = [...new Set(spans.map((span) => span.node_name || span.node || "nobody"))].sort().join(", ");
  return el("div", { class: "band", role: "img", "aria-label": `cover: ${spans.length} spans on ${owners}` }, parts);
}

/** borders are the keys below the band, where there is room for them; what all begin with is said once. */
export function borders(spans) {
  const shown = spans.length <= bandLabelsMax ? spans : spans.slice(0, 1);
  const keys = shown.map((span) => keyText(span.start));
  const shared = keys.length > 1 ? sharedLength(keys.slice(1)) : 0;
  const text = (key, i) => (i && shared > prefixMin ? `…${key.slice(shared)}` : key || "beginning");
  const end = keyText(spans.at(-1).end) || "end";
  return el("div", { class: "borders mono", "aria-hidden": "true" },
    keys.map((key, i) => el("span", { class: "border", title: key }, el("span", {}, text(key, i)))), el("span", { class: "end", title: end }, end));
}

const prefixMin = 2;

/** sharedLength is how long a beginning all keys share, up to the last border of words: what differs stays legible. */
function sharedLength(keys) {
  let length = Math.min(...keys.map((key) => key.length));
  while (length > 0 && !keys.every((key) => key.startsWith(keys[0].slice(0, length)))) length--;
  return keys[0].slice(0, length).lastIndexOf("/") + 1;
}

function spanText(span) {
  return [`[${keyText(span.start) || "the beginning"}, ${keyText(span.end) || "the end"})`, span.node_name || "nobody",
    span.epoch ? `token (${span.epoch}, ${span.seq ?? 0})` : "", span.state,
    span.checkpoint ? `checkpoint ${span.checkpoint}` : ""].filter(Boolean).join("\n");
}

const timelineMax = 24;

/** heldFor is how long an ownership lasted, or lasts, in milliseconds. */
export function heldFor(one) {
  return (one.until ? Date.parse(one.until) : Date.now()) - Date.parse(one.from);
}

/** timeline draws the last ownerships, the newest at the right; long ones wider, but not in proportion. */
export function timeline(past, colour) {
  const shown = past.slice(0, timelineMax).reverse();
  const parts = shown.map((one) => {
    const text = `epoch ${one.epoch}: ${one.owner_name || "nobody"}, ${one.reason}, for ${duration(heldFor(one))}`;
    const part = el("div", { class: one.owner ? "part" : "part nobody", title: text }, `${one.epoch}`);
    part.style.background = one.owner ? colour(one.owner_name) || "var(--quiet)" : "";
    part.style.flexGrow = 1 + Math.log1p(heldFor(one) / 1000);
    return part;
  });
  return el("div", { class: "band timeline", role: "img", "aria-label": `the last ${shown.length} ownerships, told below` }, parts);
}
