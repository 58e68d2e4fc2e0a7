// Getting the model of a bundle into this browser and into memory.
import { findGpu, LocalEngine } from './local.js';
import { app, at, say } from './state.js';
import { room } from './storage.js';

/** The person wants the model. */
export async function begin() {
  await navigator.storage.persist();
  await prepare(at('gpu').checked ? app.gpu : null);
}

async function prepare(gpu = null) {
  const { engine } = app;
  let started = 0;
  const tell = (stage, loaded, total) => {
    const { words } = app;
    if (app.state !== stage) say(stage);
    started ||= performance.now();
    at('bar').removeAttribute('value');
    if (total) Object.assign(at('bar'), { max: total, value: loaded });
    const seconds = (performance.now() - started) / 1000;
    const left = seconds > 2 && loaded ? words.seconds(((total - loaded) * seconds) / loaded) : '';
    at('bar-text').textContent = stage === 'storing' ? words.storing({ loaded: words.bytes(loaded), total: words.bytes(total), left }) : words.loading;
  };
  try {
    await engine.prepare({ tell, gpu });
    say('ready');
    at('question').focus();
  } catch (error) {
    const storing = app.state === 'storing';
    say('missing', ({ failures }) => failures[storing ? 'storing' : 'loading'](reason(error, failures)));
    showRoom();
  }
}

function reason(error, failures) {
  const known = failures[error.name];
  if (typeof known === 'function') return known(error.file, error.message);
  return known ?? error.message;
}

function fits() {
  try {
    return Boolean(new WebAssembly.Memory({ address: 'i64', initial: 1n }));
  } catch {
    return false;
  }
}

/** Have the shell kept for when there is no network; true when the page must be loaded again to be isolated. */
async function install() {
  await navigator.serviceWorker.register('sw.js');
  await navigator.serviceWorker.ready;
  const tried = sessionStorage.getItem('werkmeister isolated');
  if (globalThis.crossOriginIsolated || tried) return false;
  if (!navigator.serviceWorker.controller) {
    await new Promise((resolve) => navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true }));
  }
  sessionStorage.setItem('werkmeister isolated', 'tried');
  return true;
}

/** Get a bundle ready: the shell kept, the page isolated, the model loaded if it is here. */
export async function startLocal() {
  app.engine = new LocalEngine(app.about);
  if (!globalThis.isSecureContext || !fits()) {
    const why = globalThis.isSecureContext ? 'unfit' : 'insecure';
    return say('failed', ({ failures }) => failures.loading(failures[why]));
  }
  if (await install()) return location.reload();
  app.gpu = await findGpu();
  if (await app.engine.isStored()) return prepare();
  at('gpu-text').textContent = app.gpu ? app.words.gpu(app.gpu.name) : '';
  say('missing');
  return showRoom();
}

/** Say how much room there is, where the model is not stored yet. */
export async function showRoom() {
  if (app.state !== 'missing' || !app.about?.model) return;
  const { words } = app;
  const { quota, usage } = await room();
  const free = Math.max(0, quota - usage);
  const short = free < app.about.model.bytes;
  const sizes = { free: words.bytes(free), quota: words.bytes(quota), needed: words.bytes(app.about.model.bytes) };
  at('start-room').textContent = short ? words.roomShort(sizes) : words.room(sizes);
  at('begin').disabled = short;
}
