// Elements and small pictures. Text is only ever set as text, so that no name from a record becomes markup.

/** el makes an element: attributes, listeners as `onclick`, children as text or elements. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

const space = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const palette = ["#3b82f6", "#e07b39", "#2f9e77", "#b45bc9", "#c9a227", "#d6456b", "#4fb3d9", "#7a8f3a", "#8a6d5a", "#6b6fd6"];

/** colours gives each node name a colour that stays while the set of names does. */
export function colours(names) {
  const sorted = [...new Set(names)].sort();
  return (name) => (name ? palette[sorted.indexOf(name) % palette.length] ?? "#888" : "#888");
}

/** plot draws samples [{at, value}] of the last `span` milliseconds; what it says for those who don't see is its label. */
export function plot(samples, { width = 120, height = 26, span, label }) {
  const known = samples.filter((sample) => sample.value !== null && sample.value !== undefined);
  const last = known.at(-1);
  const picture = svg("svg", { class: "plot", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  picture.append(svg("title"));
  picture.firstChild.textContent = label;
  if (known.length < 2) return picture;
  const top = Math.max(...known.map((sample) => sample.value), 1e-9);
  const x = (sample) => width - ((last.at - sample.at) / span) * width;
  const y = (sample) => height - 1 - (sample.value / top) * (height - 3);
  const line = known.map((sample, i) => `${i ? "L" : "M"}${x(sample).toFixed(1)} ${y(sample).toFixed(1)}`).join("");
  picture.append(svg("path", { class: "area", d: `${line}L${width} ${height}L${x(known[0]).toFixed(1)} ${height}Z` }));
  picture.append(svg("path", { class: "line", d: line }));
  return picture;
}

/** keyText shows a key: as it is, or as base64. */
export function keyText(key) {
  if (key === undefined || key === null || key === "") return "";
  return typeof key === "string" ? key : `base64:${key.base64}`;
}

export const bandSpansMax = 400; // more are drawn as groups of neighbours

/** band draws the cover over the key space, in its order; each span as wide as the others. */
export function band(spans, colour) {
  const width = 1000;
  const size = Math.max(1, Math.ceil(spans.length / bandSpansMax));
  const picture = svg("svg", { class: "band", viewBox: `0 0 ${width} 42`, preserveAspectRatio: "none", role: "img", "aria-label": `cover: ${spans.length} spans` });
  for (let i = 0; i < spans.length; i += size) {
    const group = spans.slice(i, i + size);
    const first = group[0];
    const rect = svg("rect", {
      x: (i / spans.length) * width, y: 0, width: (group.length / spans.length) * width, height: 42,
      fill: first.node ? colour(first.node_name || first.node) : "transparent",
    });
    const title = svg("title");
    title.textContent = group.length > 1 ? `${group.length} spans from ${keyText(first.start) || "the beginning"}` : spanText(first);
    rect.append(title);
    picture.append(rect);
  }
  return picture;
}

function spanText(span) {
  return [`[${keyText(span.start) || "the beginning"}, ${keyText(span.end) || "the end"})`, span.node_name || "nobody",
    span.epoch ? `token (${span.epoch}, ${span.seq ?? 0})` : "", span.state,
    span.checkpoint ? `checkpoint ${span.checkpoint}` : ""].filter(Boolean).join("\n");
}

export function dot(colour) {
  const mark = el("span", { class: "dot", "aria-hidden": "true" });
  mark.style.background = colour;
  return mark;
}

export function state(name) {
  return el("span", { class: `state ${name}` }, name);
}

/** duration says milliseconds as people do. */
export function duration(ms) {
  if (ms === undefined || ms === null || Number.isNaN(ms)) return "–";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const s = ms / 1000;
  if (s < 90) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129_600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} d`;
}

export const lag = (seconds) => (seconds === undefined ? "–" : duration(seconds * 1000));

export function rate(value) {
  if (value === undefined || value === null) return "–";
  return value >= 10 || value === 0 ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

export function when(time) {
  if (!time) return "–";
  return el("time", { datetime: time, title: time }, new Date(time).toLocaleString("en-GB"));
}
