// What the console says to the node that served it. Paths are relative, so that it also works behind a prefix.

const root = "api/v1";

/** A refusal or failure, as the API's problem tells it. */
export class Problem extends Error {
  constructor(status, body) {
    super([body.field && `${body.field}: ${body.value ?? ""}`, body.detail || body.title].filter(Boolean).join(" — "));
    this.status = status;
    this.code = body.code || "";
    this.cure = body.cure || "";
  }
}

/** No answer: the node is gone, or the way to it. */
export class Unreachable extends Error {}

export const requestMax = 20_000;

export async function call(method, path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(root + path, {
      method, headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(requestMax),
    });
  } catch (err) {
    throw new Unreachable(err.message);
  }
  const text = await answer.text().catch(() => "");
  let value = {};
  try {
    value = text ? JSON.parse(text) : {};
  } catch {
    value = { detail: text.slice(0, 300) };
  }
  if (!answer.ok) throw new Problem(answer.status, value);
  return value;
}

const named = (feed) => `/changefeeds/${encodeURIComponent(feed.namespace)}/${encodeURIComponent(feed.name)}`;

export const get = (path) => call("GET", path);
export const cluster = () => get("/cluster");
export const changefeed = (feed) => get(named(feed));
export const spans = (feed) => all(`${named(feed)}/spans`);
export const history = (feed) => all(`${named(feed)}/history`);
export const act = (feed, verb, body) => call("POST", `${named(feed)}/${verb}`, body);
export const remove = (feed) => call("DELETE", named(feed));
export const drain = (name) => call("PUT", `/nodes/${encodeURIComponent(name)}/drain`);
export const undrain = (name) => call("DELETE", `/nodes/${encodeURIComponent(name)}/drain`);

const pageSize = 1000;
const pagesMax = 10; // more than anybody looks at

/** all returns the items of a list, page after page. */
async function all(path) {
  const items = [];
  for (let after = "", pages = 0; pages < pagesMax; pages++) {
    const page = await get(`${path}?limit=${pageSize}${after ? `&after=${encodeURIComponent(after)}` : ""}`);
    items.push(...page.items);
    if (!(after = page.next || "")) break;
  }
  return items;
}

/** changefeeds returns one page, after the given name, and what to ask the next one by. */
export const changefeeds = (after = "") => get(`/changefeeds?limit=${pageSize}${after ? `&after=${encodeURIComponent(after)}` : ""}`);

/** session says who we are: {role}. */
export const session = () => get("/session");
export const login = (token) => call("POST", "/session", { token });
export const logout = () => call("DELETE", "/session");

/** events calls back with every event, and says when the stream is open and when it is not. */
export function events(kinds, heard, open) {
  const stream = new EventSource(`${root}/events`);
  for (const kind of kinds) {
    stream.addEventListener(kind, (event) => {
      try {
        heard({ kind, id: event.lastEventId, ...JSON.parse(event.data) });
      } catch (err) {
        console.warn("an event that is not JSON", err);
      }
    });
  }
  stream.addEventListener("open", () => open(true));
  stream.addEventListener("error", () => open(false));
  return () => stream.close();
}
