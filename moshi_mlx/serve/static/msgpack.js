// As much of MessagePack as moshi-server's messages need.

/** A map of strings, whole numbers and Float32Arrays (as bytes), in bytes. */
export function pack(fields) {
  const parts = [[0x80 | Object.keys(fields).length]];
  for (const [name, value] of Object.entries(fields)) parts.push(text(name), packed(value));
  const out = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function packed(value) {
  if (typeof value === "string") return text(value);
  if (typeof value === "number") return head(0xd2, value, 4);
  const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return [...head(0xc6, bytes.length, 4), ...bytes];
}

function text(value) {
  const bytes = new TextEncoder().encode(value);
  return [...head(0xd9, bytes.length, 1), ...bytes];
}

function head(kind, value, size) {
  const bytes = [kind];
  for (let i = size - 1; i >= 0; i--) bytes.push((value >> (8 * i)) & 255);
  return bytes;
}

/** The value that `bytes` hold: maps become objects. */
export function unpack(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const take = (size) => (at += size) - size;
  const sized = (size) => view[`getUint${8 * size}`](take(size));
  const many = (count) => Array.from({ length: count }, value);
  const string = (size) => new TextDecoder().decode(bytes.subarray(take(size), at));
  const pairs = (count) => {
    const found = {};
    for (let i = 0; i < count; i++) {
      const key = value();
      found[key] = value();
    }
    return found;
  };
  function value() {
    const kind = view.getUint8(take(1));
    if (kind < 0x80) return kind;
    if (kind < 0x90) return pairs(kind & 15);
    if (kind < 0xa0) return many(kind & 15);
    if (kind < 0xc0) return string(kind & 31);
    if (kind >= 0xe0) return kind - 256;
    switch (kind) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xca: return view.getFloat32(take(4));
      case 0xcb: return view.getFloat64(take(8));
      case 0xcc: case 0xcd: case 0xce: return sized(1 << (kind - 0xcc));
      case 0xcf: return Number(view.getBigUint64(take(8)));
      case 0xd0: return view.getInt8(take(1));
      case 0xd1: return view.getInt16(take(2));
      case 0xd2: return view.getInt32(take(4));
      case 0xd3: return Number(view.getBigInt64(take(8)));
      case 0xd9: case 0xda: case 0xdb: return string(sized(1 << (kind - 0xd9)));
      case 0xdc: case 0xdd: return many(sized(2 << (kind - 0xdc)));
      case 0xde: case 0xdf: return pairs(sized(2 << (kind - 0xde)));
      default: throw new Error(`MessagePack of the kind ${kind} is not expected.`);
    }
  }
  return value();
}
