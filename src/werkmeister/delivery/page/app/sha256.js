// SHA-256 over pieces that come one after another, which the browser's own digest cannot do (FIPS 180-4).

const PRIMES = [];
for (let number = 2; PRIMES.length < 64; number++) {
  if (PRIMES.every((prime) => number % prime)) PRIMES.push(number);
}
const fraction = (value) => Math.floor((value - Math.floor(value)) * 2 ** 32);
const START = PRIMES.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
const ROUND = new Int32Array(PRIMES.map((prime) => fraction(Math.cbrt(prime)) | 0));

export class Sha256 {
  #state = new Int32Array(START);
  #words = new Int32Array(64);
  #held = new Uint8Array(64);
  #holds = 0;
  #length = 0;

  /** Take in a Uint8Array. */
  add(bytes) {
    this.#length += bytes.length;
    let at = 0;
    if (this.#holds) {
      at = Math.min(64 - this.#holds, bytes.length);
      this.#held.set(bytes.subarray(0, at), this.#holds);
      this.#holds += at;
      if (this.#holds < 64) return this;
      this.#block(this.#held, 0);
      this.#holds = 0;
    }
    for (; at + 64 <= bytes.length; at += 64) this.#block(bytes, at);
    this.#held.set(bytes.subarray(at));
    this.#holds = bytes.length - at;
    return this;
  }

  /** The digest of all that was taken in, as 64 hex digits; nothing may be added after it. */
  digest() {
    const length = this.#length;
    const padding = new Uint8Array(((length % 64 < 56 ? 56 : 120) - (length % 64)) + 8);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(length / 2 ** 29));
    view.setUint32(padding.length - 4, (length * 8) >>> 0);
    this.add(padding);
    return [...this.#state].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  #block(bytes, at) {
    const w = this.#words;
    for (let i = 0; i < 16; i++, at += 4) {
      w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = this.#state;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const one = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + one) | 0; d = c; c = b; b = a; a = (one + two) | 0;
    }
    const s = this.#state;
    s[0] += a; s[1] += b; s[2] += c; s[3] += d; s[4] += e; s[5] += f; s[6] += g; s[7] += h;
  }
}
