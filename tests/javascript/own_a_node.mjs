// Owns the node "press": handles what is sent to it, replies with progress, a result or an error.

import { headers } from "@nats-io/transport-node";
import { eventsOf, Space } from "./space.mjs";

const NODE = "press";
const space = await Space.open(JSON.parse(process.argv[2]));
const open = new Map(); // id -> the newest reply, for 60 s after the last one
const cancelled = new Set();
const askers = new Map(); // process -> when it asked
let position = 0; // everything up to here has been read

const handlers = {
  "print.pages": async (event, progress) => {
    for (let done = 1; done <= event.payload.pages; done++) {
      if (cancelled.has(event.id)) return null;
      progress({ done, total: event.payload.pages });
    }
    const { revision } = await space.commit(NODE, (state) => ({ printed: (state.printed ?? 0) + event.payload.pages }), event);
    return { printed: event.payload.pages, revision };
  },
  "print.jam": () => {
    throw new RangeError("paper jam in tray 2");
  },
};

// 1. Answer questions before owning anything: whoever finds nobody here acquires the node.
space.connection.subscribe(`_happen.${space.name}.live.${space.process}`, {
  callback: (_, message) => {
    const question = message.json();
    if (question.cancel) cancelled.add(question.cancel);
    if (question.events) {
      const still = question.events.filter((id) => open.get(id)?.state === "accepted");
      return message.respond(JSON.stringify({ position, open: still }));
    }
    const id = question.send ?? question.cancel;
    if (id) return message.respond(JSON.stringify(open.has(id) ? { send: open.get(id) } : {}));
    askers.set(question.from, Date.now());
    const waiters = [...askers.values()].filter((when) => Date.now() - when < 3000).length;
    message.respond(JSON.stringify({ waiters }));
  },
});

// 2. Claim the node: the newest record names the owner.
async function own(incarnation) {
  const record = { node: NODE, incarnation, patterns: Object.keys(handlers), pid: process.pid, host: "", since: 0, takeover: false };
  for (;;) {
    const before = await space.newest(`${space.prefix}owner.${NODE}`);
    const h = headers();
    h.set("Nats-Expected-Last-Subject-Sequence", String(before?.seq ?? 0));
    try {
      return (await space.journal.publish(`${space.prefix}owner.${NODE}`, JSON.stringify(record), { headers: h })).seq;
    } catch (error) {
      if (error.code !== 10071) throw error; // another process was first: claim it from that one
    }
  }
}
const claimed = (position = await own(space.process));

// 3. Replies go to the process that sent the event; it asks again for one that gets lost.
function reply(event, outcome) {
  const message = { event: event.id, by: space.process, ...outcome };
  if (message.progress === undefined) open.set(event.id, message);
  space.connection.publish(`_happen.${space.name}.reply.${event.id.split("-")[0]}`, JSON.stringify(message));
}

async function handle(event) {
  const handler = handlers[event.type];
  if (!handler) {
    if (event.target === NODE) {
      const message = `node "${NODE}" has no handler of "${event.type}"`;
      reply(event, { state: "failed", kind: "NoHandlerError", message });
    }
    return;
  }
  const began = performance.now();
  const sent = event.target === NODE; // a broadcast has no reply
  let outcome = "done", error = null;
  if (sent) reply(event, { state: "accepted" });
  try {
    const value = await handler(event, (value) => sent && reply(event, { state: "accepted", progress: [value] }));
    if (sent) reply(event, { state: "done", value });
  } catch (raised) {
    [outcome, error] = ["failed", String(raised)];
    const message = `the handler of "${event.type}" at node "${NODE}" raised ${error}`;
    if (sent) reply(event, { state: "failed", kind: "HandlerError", message, trace: raised.stack });
  }
  if (cancelled.has(event.id)) outcome = "cancelled";
  setTimeout(() => open.delete(event.id), 60_000).unref();
  // 4. Store what was handled: traces, handled_by and unhandled are read from it.
  const seconds = (performance.now() - began) / 1000;
  const h = headers();
  h.set("Nats-TTL", space.ttl);
  const items = [[event.id, NODE, event.type, outcome, seconds, error, 1]];
  await space.journal.publish(`${space.prefix}handled.${space.process}`, JSON.stringify(items), { headers: h });
}

// 5. Follow the journal from the claim on. Events are messages of their own, or ride on commits.
const consumer = await space.journal.consumers.get(space.stream, {
  filter_subjects: [`${space.prefix}event.>`, `${space.states}>`, `${space.prefix}owner.${NODE}`],
  opt_start_seq: claimed + 1,
  deliver_policy: "by_start_sequence",
});
const messages = await consumer.consume();
process.stdin.resume().on("end", () => messages.stop());
console.log("ready");
let owner = space.process;
for await (const message of messages) {
  if (message.subject === `${space.prefix}owner.${NODE}`) {
    owner = message.json().incarnation;
    if (owner !== space.process) break; // another process handles the events from here on
  }
  for (const event of eventsOf(message)) if (event.target === undefined || event.target === NODE) await handle(event);
  position = message.seq;
}
if (owner === space.process) await own(null); // release the node, so that nobody has to wait
console.log(owner === space.process ? "released" : "lost");
await space.close();
