// The model's files in the browser's private file system, seen from the page.

/** A name for this expert's folder: two bundles on one site do not share theirs. */
export const folderName = () => `werkmeister ${new URL('.', location.href).pathname.replaceAll('/', ' ').trim()}`.trim();

/** Bring the files of a model into storage, unless they are there; `tell(loaded, total)` is called on the way. */
export function bring(files, tell) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('storing.js', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }) => {
      if (data.total) return tell(data.loaded, data.total);
      worker.terminate();
      if (data.done) return resolve();
      return reject(Object.assign(new Error(data.error.message), data.error));
    };
    worker.onerror = (event) => {
      worker.terminate();
      reject(new Error(event.message ?? 'the worker that stores the model did not start'));
    };
    const asked = files.map(({ name, sha256, bytes }) => ({ url: new URL(name, document.baseURI).href, sha256, bytes }));
    worker.postMessage({ folder: folderName(), files: asked });
  });
}

/** The stored files as Blobs that are read when they are needed, in order; null when one is missing. */
export async function stored(files) {
  try {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle(folderName());
    const blobs = [];
    for (const { sha256, bytes } of files) {
      await folder.getFileHandle(`${sha256}.done`);
      const blob = await (await folder.getFileHandle(`${sha256}.gguf`)).getFile();
      if (blob.size !== bytes) return null;
      blobs.push(blob);
    }
    return blobs;
  } catch (error) {
    if (error.name === 'NotFoundError') return null;
    throw error;
  }
}

/** Delete the stored model. */
export async function forget() {
  const root = await navigator.storage.getDirectory();
  await root.removeEntry(folderName(), { recursive: true });
}

/** What the browser says of its room, in bytes, and whether it promised to keep it: {quota, usage, persisted}. */
export async function room() {
  const { quota = 0, usage = 0 } = await navigator.storage.estimate();
  return { quota, usage, persisted: await navigator.storage.persisted() };
}
