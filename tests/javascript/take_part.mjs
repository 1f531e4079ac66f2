// Reads a state, commits, emits an event, and waits until a handler in another process has handled it.

import { Space } from "./space.mjs";

const space = await Space.open(JSON.parse(process.argv[2]));
const print = (value) => console.log(JSON.stringify(value));

print({ read: await space.read("orders") });
print({ commit: await space.commit("orders", (state) => ({ ...state, open: state.open + 1, note: "größer" })) });

const handled = space.connection.subscribe(`${space.prefix}handled.>`);
const event = await space.broadcast("till", "order.paid", { id: "o1", größe: "ü" });
for await (const message of handled) {
  const mine = message.json().find(([id]) => id === event.id);
  if (mine) {
    const [id, node, handler, outcome] = mine; // more members may follow
    print({ handled: { id, node, handler, outcome } });
    break;
  }
}
print({ read: await space.read("orders") });
await space.close();
