// Elements and words. Text is only ever set as text, so that no name from a record becomes markup.

/** el makes an element: attributes, listeners as `onclick`, children as text or elements. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node[key] = value; // a property, so that patch can hand it on
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

const listeners = ["onclick", "oninput", "onsubmit", "ontoggle"];

/** patch makes the children of a node what they should be and keeps those that are: focus, selection and place stay. */
export function patch(parent, children) {
  const wanted = children.map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  const keys = new Set(wanted.map(keyOf).filter(Boolean));
  let have = parent.firstChild;
  for (const want of wanted) {
    while (have && keyOf(have) && keyOf(have) !== keyOf(want) && !keys.has(keyOf(have))) have = drop(have);
    if (!have) {
      parent.append(want);
    } else if (have.nodeName === want.nodeName && keyOf(have) === keyOf(want)) {
      patchOne(have, want);
      have = have.nextSibling;
    } else if (keyOf(want) && keyOf(have) !== keyOf(want)) {
      parent.insertBefore(want, have);
    } else {
      const next = have.nextSibling;
      have.replaceWith(want);
      have = next;
    }
  }
  while (have) have = drop(have);
}

function drop(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

/** keyOf names a thing that must not become another one: a key of its own, or an id. */
function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.dataset?.key || node.id || "" : "";
}

function patchOne(have, want) {
  if (have.nodeType === Node.TEXT_NODE) {
    if (have.data !== want.data) have.data = want.data;
    return;
  }
  for (const { name } of [...have.attributes]) if (!want.hasAttribute(name)) have.removeAttribute(name);
  for (const { name, value } of want.attributes) {
    if (name === "style") have.style.cssText = want.style.cssText; // as an attribute the policy refuses it
    else if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
  for (const name of listeners) have[name] = want[name];
  patch(have, [...want.childNodes]);
}

const palette = ["#2563eb", "#b45309", "#047857", "#9333ea", "#be185d", "#0e7490", "#4d7c0f", "#7c4a2d", "#4f46e5", "#57606a"];

/** colours gives each node name a colour that stays while the set of names does. */
export function colours(names) {
  const sorted = [...new Set(names)].sort();
  return (name) => (name ? palette[sorted.indexOf(name) % palette.length] ?? "#57606a" : "transparent");
}

/** keyText shows a key: as it is, or as base64. */
export function keyText(key) {
  if (key === undefined || key === null || key === "") return "";
  return typeof key === "string" ? key : `base64:${key.base64}`;
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

export const lag = (seconds) => (seconds === undefined || seconds === null ? "–" : duration(seconds * 1000));

export function rate(value) {
  if (value === undefined || value === null) return "–";
  return value >= 10 || value === 0 ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

export function count(n, one, many = `${one}s`) {
  return `${n ?? "?"} ${n === 1 ? one : many}`;
}

export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

/** when says a moment: the day only if it is another. */
export function when(time) {
  if (!time) return "–";
  const at = new Date(time);
  const today = at.toDateString() === new Date().toDateString();
  return el("time", { datetime: time, title: time }, today ? clock(at) : at.toLocaleString("en-GB"));
}
