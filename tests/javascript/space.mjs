// A space as another program sees it: its names, ids, states, commits and events.

import { randomBytes } from "node:crypto";
import { connect, headers } from "@nats-io/transport-node";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";

const WRONG_LAST_SEQUENCE = 10071; // the expectation did not hold: another message was first

// Header values are ASCII; JSON in a header escapes everything else.
const ascii = (value) =>
  JSON.stringify(value).replace(/[\u007f-\uffff]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

// An event type as one token of a subject. Readers take the type from the header.
const token = (type) => encodeURIComponent(type).replace(/[.*~]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());

export class Space {
  static async open({ url, token, space }) {
    const connection = await connect({ servers: url, token });
    const self = new Space(space, connection, jetstream(connection), await jetstreamManager(connection));
    const { config } = await self.manager.streams.info(self.stream);
    self.ttl = config.metadata?.["happen.event_ttl"] ?? "604800"; // seconds for which events are kept
    return self;
  }

  constructor(name, connection, journal, manager) {
    Object.assign(this, { name, connection, journal, manager });
    this.stream = `KV_happen_${name}`;
    this.states = `$KV.happen_${name}.`;
    this.prefix = `happen.${name}.`;
    this.process = randomBytes(6).toString("hex"); // names this program until it ends
    this.address = this.process + randomBytes(2).toString("hex"); // begins its ids; replies come here
    this.count = 0;
  }

  newId() {
    return `${this.address}-${++this.count}`;
  }

  newest(subject) {
    return this.manager.direct.getMessage(this.stream, { last_by_subj: subject }); // null if there is none
  }

  async last() {
    return (await this.manager.streams.info(this.stream)).state.last_seq;
  }

  // Returns the state, the sequence to compare with, and the revision.
  async read(node) {
    const message = await this.newest(this.states + node);
    if (message === null) return { state: {}, sequence: 0, revision: 0 };
    const ended = ["DEL", "PURGE"].includes(message.header.get("KV-Operation"));
    return {
      state: ended ? {} : message.json(),
      sequence: message.seq,
      revision: revisionOf(message.header) ?? (await this.countUp(node, message.seq)),
    };
  }

  // A message of another client has no revision: count on from the newest one before it that has.
  async countUp(node, sequence) {
    let revision = 0;
    const consumer = await this.journal.consumers.get(this.stream, { filter_subjects: [this.states + node] });
    for await (const message of await consumer.consume()) {
      if (message.seq > sequence) break;
      revision = revisionOf(message.headers) ?? revision + 1;
      if (message.seq === sequence) break;
    }
    return revision;
  }

  // Store transform(state); `cause` is the event that is being handled, if there is one.
  async commit(node, transform, cause) {
    const id = this.newId();
    for (;;) {
      const old = await this.read(node);
      const state = transform(old.state);
      const h = headers();
      h.set("Nats-Expected-Last-Subject-Sequence", String(old.sequence));
      h.set("Happen-Commit", `${id} ${old.revision + 1} ${await this.last()}`);
      if (cause) {
        h.set("Happen-Cause", cause.id);
        h.set("Happen-Correlation", cause.correlation ?? cause.id);
        h.set("Happen-By", node);
        h.set("Happen-Path", [...(cause.path ?? []), cause.id].join(" "));
        if (cause.omitted) h.set("Happen-Omitted", String(cause.omitted));
      }
      try {
        const { seq } = await this.journal.publish(this.states + node, JSON.stringify(state), { headers: h });
        return { state, sequence: seq, revision: old.revision + 1 };
      } catch (error) {
        // Refused, or no answer: if the newest message is this commit, an earlier attempt has stored it.
        const now = await this.newest(this.states + node);
        if (now?.header.get("Happen-Commit")?.split(" ")[0] === id)
          return { state, sequence: now.seq, revision: revisionOf(now.header) };
        if (error.code !== WRONG_LAST_SEQUENCE && error.name !== "TimeoutError") throw error;
      }
    }
  }

  async broadcast(sender, type, payload) {
    const event = { id: this.newId(), type, sender };
    const h = headers();
    h.set("Nats-Expected-Last-Subject-Sequence", "0");
    h.set("Nats-TTL", this.ttl);
    h.set("Happen-Event", ascii(event));
    await this.journal.publish(`${this.prefix}event.${sender}.${event.id}.${token(type)}`, JSON.stringify(payload), { headers: h });
    return event;
  }

  close() {
    return this.connection.close();
  }
}

function revisionOf(header) {
  const commit = header?.get("Happen-Commit");
  return commit ? Number(commit.split(" ")[1]) : undefined;
}

// The events that a stored message is or carries.
export function eventsOf(message) {
  const own = message.headers?.get("Happen-Event");
  const riding = message.headers?.get("Happen-Events");
  if (own) return [{ ...JSON.parse(own), payload: message.json() }];
  return riding ? JSON.parse(riding) : [];
}
