// The websocket: what happens to all prompts, as it happens.

const listeners = new Map();

/**
 * Call `callback(data)` for each message of a type; `preview` has `(metadata, image)`, `connection` has true or false.
 */
export function on(type, callback) {
  listeners.set(type, [...(listeners.get(type) ?? []), callback]);
}

const say = (type, ...data) => (listeners.get(type) ?? []).forEach(callback => callback(...data));

function look(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0) !== 4) return;
  const length = view.getUint32(4);
  const metadata = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  say("preview", metadata, new Blob([new Uint8Array(buffer, 8 + length)], { type: metadata.image_type }));
}

export function connect() {
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/ws?all=true");
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    socket.send(JSON.stringify({ type: "feature_flags", data: { supports_preview_metadata: true } }));
    say("connection", true);
  };
  socket.onmessage = event => {
    if (typeof event.data !== "string") return look(event.data);
    const message = JSON.parse(event.data);
    say(message.type, message.data);
  };
  socket.onclose = () => {
    say("connection", false);
    setTimeout(connect, 2000);
  };
}
