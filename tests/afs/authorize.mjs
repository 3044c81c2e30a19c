// The runner of the suite sends no token; its requests get one here.
const send = globalThis.fetch;

globalThis.fetch = (url, options = {}) =>
  send(url, { ...options, headers: { ...options.headers, Authorization: `Bearer ${process.env.CTXFS_TOKEN}` } });
