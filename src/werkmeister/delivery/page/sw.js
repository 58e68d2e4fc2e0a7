// Keeps the page in the browser, so that it opens without a network, and gives it the headers that let the model use
// several threads (COOP and COEP), whatever the host sends. Nothing of another host is ever fetched.
//
// In front of this text a bundle has `const SHELL = {version, files, policy}`: what to keep, and the page's
// Content-Security-Policy, which workers would not get from the page.
/* global SHELL */

const CACHE = `werkmeister ${self.registration.scope} ${SHELL.version}`;
const HERE = new URL('.', self.location.href);
const KEPT = new Set(SHELL.files.map((name) => new URL(name, HERE).href));
const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Content-Security-Policy': SHELL.policy,
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

self.addEventListener('install', (event) => event.waitUntil(keep()));
self.addEventListener('activate', (event) => event.waitUntil(tidy()));
self.addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function keep() {
  const cache = await caches.open(CACHE);
  await cache.addAll([...KEPT].map((url) => new Request(url, { cache: 'reload' })));
}

async function tidy() {
  const own = `werkmeister ${self.registration.scope} `;
  for (const name of await caches.keys()) if (name.startsWith(own) && name !== CACHE) await caches.delete(name);
  await self.clients.claim();
}

async function answer(request) {
  const url = new URL(request.url);
  if (url.origin !== self.location.origin) return Response.error();
  url.search = url.hash = '';
  if (url.href === HERE.href) url.pathname += 'index.html';
  if (request.method === 'GET' && KEPT.has(url.href)) {
    const cache = await caches.open(CACHE);
    const found = await cache.match(url.href);
    if (found) return headed(found);
  }
  try {
    return headed(await fetch(request));
  } catch (error) {
    return Response.error();
  }
}

function headed(response) {
  if (response.type === 'opaque' || response.type === 'error' || response.type === 'opaqueredirect') return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const { status, statusText } = response;
  return new Response(status === 204 || status === 304 ? null : response.body, { status, statusText, headers });
}
