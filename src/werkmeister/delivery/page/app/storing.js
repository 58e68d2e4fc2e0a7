// A worker that brings the model's files into the browser's private file system (OPFS), and checks each by SHA-256.
//
// Takes {folder, files: [{url, sha256, bytes}]} and answers {loaded, total} as it goes, then {done: true} or {error}.
// A file is whole when `SHA256.done` stands beside it; what a broken download left is taken up where it ended.
import { Sha256 } from './sha256.js';

const PIECE = 4 << 20;

onmessage = async ({ data: { folder, files } }) => {
  try {
    await store(folder, files);
    postMessage({ done: true });
  } catch (error) {
    postMessage({ error: { name: error.name, message: error.message, file: error.file ?? '' } });
  }
};

async function store(name, files) {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle(name, { create: true });
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  let before = 0;
  let said = 0;
  const tell = (loaded, force) => {
    if (!force && performance.now() - said < 100) return;
    said = performance.now();
    postMessage({ loaded: before + loaded, total });
  };
  for (const file of files) {
    if (!(await isWhole(folder, file))) await fetchFile(folder, file, tell);
    before += file.bytes;
    tell(0, true);
  }
  await clear(folder, files);
}

async function isWhole(folder, { sha256, bytes }) {
  try {
    await folder.getFileHandle(`${sha256}.done`);
    const handle = await folder.getFileHandle(`${sha256}.gguf`);
    return (await handle.getFile()).size === bytes;
  } catch (error) {
    if (error.name === 'NotFoundError') return false;
    throw error;
  }
}

async function fetchFile(folder, file, tell) {
  const handle = await folder.getFileHandle(`${file.sha256}.gguf`, { create: true });
  const access = await handle.createSyncAccessHandle();
  try {
    let hash = new Sha256();
    let at = Math.min(access.getSize(), file.bytes);
    if (at === file.bytes) at = 0; // it has the right length and was never found whole: fetch it anew
    access.truncate(at);
    readInto(hash, access, at);
    const headers = at ? { Range: `bytes=${at}-` } : {};
    const answer = await fetch(file.url, { headers, cache: 'no-store' });
    if (!answer.ok) throw named('HttpError', `${answer.status} ${answer.statusText}`, file);
    if (at && answer.status !== 206) {
      // A server that knows no ranges begins again from the front.
      at = 0;
      hash = new Sha256();
      access.truncate(0);
    }
    const reader = answer.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      access.write(part.value, { at });
      hash.add(part.value);
      at += part.value.length;
      tell(at);
    }
    if (at !== file.bytes) throw named('ShortError', `${at} of ${file.bytes} bytes`, file);
    if (hash.digest() !== file.sha256) {
      access.truncate(0);
      throw named('HashError', file.sha256, file);
    }
    access.flush();
  } finally {
    access.close();
  }
  await folder.getFileHandle(`${file.sha256}.done`, { create: true });
}

function readInto(hash, access, size) {
  const buffer = new Uint8Array(PIECE);
  for (let at = 0; at < size; ) {
    const read = access.read(buffer.subarray(0, Math.min(PIECE, size - at)), { at });
    hash.add(buffer.subarray(0, read));
    at += read;
  }
}

/** Delete what an earlier version of this expert needed. */
async function clear(folder, files) {
  const wanted = new Set(files.flatMap(({ sha256 }) => [`${sha256}.gguf`, `${sha256}.done`]));
  const names = [];
  for await (const name of folder.keys()) names.push(name);
  for (const name of names) if (!wanted.has(name)) await folder.removeEntry(name);
}

function named(name, message, file) {
  return Object.assign(new Error(message), { name, file: file.url });
}
