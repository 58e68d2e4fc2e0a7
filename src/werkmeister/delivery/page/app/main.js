// The page: one expert, its engine, and the person's conversations.
import { aboutNodes, readGolden, replay } from './about.js';
import { again, askKey, copy, grow, send } from './asking.js';
import * as kept from './conversations.js';
import { ask } from './dialogs.js';
import { GatewayEngine } from './gateway.js';
import { begin, showRoom, startLocal } from './loading.js';
import { exportConversation, open, remove, removeAll, rename, showConversation, showList, showSide } from './shelf.js';
import { app, at, expertName, say, showState } from './state.js';
import { choose, LANGUAGES } from './words.js';

const THEME = 'werkmeister theme';
const THEMES = ['auto', 'light', 'dark'];
app.acts = { copy, again };

// Words, colours, and what stands where.

function showWords() {
  const { words } = app;
  document.documentElement.lang = words.code;
  for (const node of document.querySelectorAll('[data-word]')) node.textContent = words[node.dataset.word];
  at('language').textContent = words.other;
  at('language').lang = words.otherCode;
  at('theme').textContent = words.themes[theme()];
  at('question').placeholder = words.question;
  at('hint').textContent = words.hint;
  at('empty').textContent = words.empty(expertName());
  at('gpu-text').textContent = app.gpu ? words.gpu(app.gpu.name) : '';
  if (app.about?.model) at('start-text').textContent = words.startText(words.bytes(app.about.model.bytes));
  showState();
  showList();
  showConversation();
  showRoom();
}

const theme = () => (THEMES.includes(localStorage.getItem(THEME)) ? localStorage.getItem(THEME) : 'auto');

function showTheme() {
  document.documentElement.dataset.theme = theme();
  at('theme').textContent = app.words.themes[theme()];
}

function nextTheme() {
  localStorage.setItem(THEME, THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  showTheme();
}

async function start() {
  showTheme();
  showWords();
  const response = await fetch('expert.json').catch(() => null);
  if (!response?.ok) return say('failed', (words) => words.failures.expert);
  app.about = await response.json();
  document.title = app.about.name;
  at('name').textContent = app.about.name;
  open(kept.list()[0] ?? kept.fresh());
  showWords();
  if (app.about.engine === 'browser') return startLocal();
  app.engine = new GatewayEngine(app.about);
  say('ready');
  if (app.about.key && !app.engine.key) await askKey();
  return undefined;
}

/** On a phone the header has no room for more than the name: the rest stands with the conversations. */
function place(narrow) {
  (narrow ? at('side') : document.querySelector('header')).append(at('tools'));
}
const narrow = globalThis.matchMedia('(max-width: 760px)');
narrow.addEventListener('change', () => place(narrow.matches));
place(narrow.matches);

// What the person does.

at('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  send();
});
at('question').addEventListener('input', grow);
at('question').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  if (at('side').classList.contains('open')) {
    showSide(false);
    at('show-list').focus();
  } else {
    app.busy?.abort();
  }
});
document.addEventListener('pointerdown', (event) => {
  if (!event.target.closest('#side, #show-list')) showSide(false);
});
at('stop').addEventListener('click', () => app.busy?.abort());
at('show-list').addEventListener('click', () => {
  showSide(!at('side').classList.contains('open'));
  if (at('side').classList.contains('open')) at('new').focus();
});
at('new').addEventListener('click', () => open(kept.fresh()));
at('rename').addEventListener('click', rename);
at('remove').addEventListener('click', remove);
at('remove-all').addEventListener('click', removeAll);
at('export').addEventListener('click', exportConversation);
at('begin').addEventListener('click', begin);
at('theme').addEventListener('click', nextTheme);
at('language').addEventListener('click', () => {
  app.words = LANGUAGES[app.words.otherCode];
  choose(app.words.code);
  showWords();
  showTheme();
});
at('state').addEventListener('click', async () => {
  if (!app.engine) return;
  const { words } = app;
  await ask({ title: words.aboutTitle, body: await aboutNodes(app.engine, words, { ready: app.state === 'ready', say }), no: words.close });
});
globalThis.addEventListener('storage', (event) => {
  if (kept.concerns(event)) showList();
});
let offer = null;
globalThis.addEventListener('beforeinstallprompt', (event) => {
  event.preventDefault();
  offer = event;
  at('install').hidden = false;
});
at('install').addEventListener('click', async () => {
  await offer?.prompt();
  at('install').hidden = true;
});

// For `werkmeister verify` and other programs that drive the page: ask the golden questions, get [true, false, …].
globalThis.werkmeister = { replay: async () => replay(app.engine, await readGolden(app.about.expected)) };

await start();
