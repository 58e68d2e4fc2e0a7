// Asking the engine, and showing the answer as it comes.
import * as kept from './conversations.js';
import { askText } from './dialogs.js';
import { EngineFailure } from './gateway.js';
import { make } from './make.js';
import { facing, keep, nodeOf, showConversation } from './shelf.js';
import { app, at, say } from './state.js';
import { showAnswer, sourcesOf } from './turns.js';

export async function send() {
  const question = at('question').value.trim();
  if (!question || app.state !== 'ready') return;
  const { conversation } = app;
  at('question').value = '';
  grow();
  conversation.name ||= kept.nameFrom(question);
  conversation.turns.push({ role: 'user', content: question });
  keep();
  await answer();
}

export async function again(turn) {
  if (app.state !== 'ready' || app.conversation.turns.at(-1) !== turn) return;
  app.conversation.turns.pop();
  await answer();
}

async function answer() {
  const { conversation, words } = app;
  const turn = { role: 'assistant', content: '' };
  const given = kept.messages(conversation.turns);
  conversation.turns.push(turn);
  showConversation();
  const refresh = refresher(turn);
  showAnswer(nodeOf(turn), turn, { ...facing(turn), waiting: true });
  app.busy = new AbortController();
  say('answering');
  at('said').textContent = words.answering;
  const said = (piece) => {
    turn.content += piece;
    refresh();
  };
  try {
    turn.facts = await heard(given, turn, { signal: app.busy.signal, said });
    turn.sources = sourcesOf(turn.facts);
    at('said').textContent = `${words.answered} ${turn.content}`;
  } catch (error) {
    failed(turn, error);
  }
  refresh.end();
  app.busy = null;
  say('ready');
  showAnswer(nodeOf(turn), turn, facing(turn));
  // It may have been deleted, or another one opened, while it was answered.
  if (app.conversation === conversation) keep();
  else if (kept.load(conversation.id)) kept.save(conversation);
}

/** Ask, and leave out the oldest turns as long as they do not fit. */
async function heard(given, turn, how) {
  for (;;) {
    try {
      return await app.engine.answer(given, how);
    } catch (error) {
      const fewer = error.code === 'context' && !turn.content ? kept.shortened(given) : null;
      if (!fewer) throw error;
      given = fewer;
      turn.dropped = (turn.dropped ?? 0) + 1;
    }
  }
}

function failed(turn, error) {
  const { failures } = app.words;
  if (error.name === 'AbortError') {
    turn.stopped = true;
    at('said').textContent = app.words.stopped;
    return;
  }
  if (error.code === 'key') askKey();
  const known = error instanceof EngineFailure && failures[error.code];
  turn.failure = known || (error instanceof TypeError && app.engine.kind === 'gateway' ? failures.network : failures.other(error.message));
  at('said').textContent = turn.failure;
}

/** Redraws an answer at most once a frame. */
function refresher(turn) {
  let asked = 0;
  const list = at('turns');
  const draw = () => {
    asked = 0;
    const low = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    showAnswer(nodeOf(turn), turn, { ...facing(turn), waiting: true });
    if (low) list.scrollTop = list.scrollHeight;
  };
  const refresh = () => (asked ||= requestAnimationFrame(draw));
  refresh.end = () => cancelAnimationFrame(asked);
  return refresh;
}

export async function copy(turn, button) {
  await toClipboard(turn.content);
  button.textContent = app.words.copied;
  at('said').textContent = app.words.copied;
  setTimeout(() => (button.textContent = app.words.copy), 2000);
}

/** Browsers give navigator.clipboard to secure pages alone; by plain http a selection is copied. */
async function toClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = make('textarea', { value: text });
  document.body.append(field);
  field.select();
  document.execCommand('copy');
  field.remove();
  return undefined;
}

export async function askKey() {
  const { words } = app;
  const key = await askText({ title: words.keyTitle, label: words.keyLabel, note: words.keyText, secret: true, yes: words.save, no: words.cancel });
  if (key) app.engine.key = key.trim();
}

/** Make the field as high as the question. */
export function grow() {
  const field = at('question');
  field.style.height = 'auto';
  field.style.height = `${field.scrollHeight + 2}px`;
}
