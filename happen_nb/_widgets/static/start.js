// Starts a widget, also late: anywidget gives a model two seconds, and in a page that is busy for longer drops every
// message to it, although the widget appears. Then messages go to the model directly.

const NOTHING = { content: { data: { method: "none" } } };

function itself(model) {
  let found; // the model that anywidget wraps comes with its events
  const find = (own) => { found = own; };
  model.on("change:hn_started", find);
  model.set("hn_started", true);
  model.off("change:hn_started", find);
  return found;
}

function initialize({ model }) {
  const own = itself(model);
  const { _handle_comm_msg: handle } = Object.getPrototypeOf(Object.getPrototypeOf(own));
  own._handle_comm_msg(NOTHING).catch(() => {
    own.comm?.on_msg((message) => handle.call(own, message));
    own.comm?.send({ method: "request_state" }, {}); // changes may have been dropped
  });
}
