// What the page's parts share: the words, the expert, its engine, the open conversation.
import * as kept from './conversations.js';
import { chosen } from './words.js';

export const at = (id) => document.getElementById(id);
export const app = {
  words: chosen(),
  about: null,
  engine: null,
  state: 'starting',
  problem: null, // a function of the words, so that it follows the language
  conversation: kept.fresh(),
  busy: null, // the AbortController of the answer under way
  gpu: null,
  acts: {}, // what the buttons of an answer do
};
export const expertName = () => app.about?.name ?? 'Werkmeister';

/** Go into a state ("ready", "answering", …), with or without a problem to show. */
export function say(state, problem = null) {
  app.state = state;
  app.problem = problem;
  showState();
}

export function showState() {
  const { words, state, problem, about, engine } = app;
  const local = state === 'ready' && engine?.kind === 'browser';
  at('state').dataset.state = state;
  at('state-text').textContent = words.states[state];
  at('state-where').textContent = local ? `· ${engine.gpu ? 'GPU' : words.cpu(engine.threads)}` : '';
  at('problem').hidden = !problem;
  at('problem').textContent = problem ? problem(words) : '';
  at('start').hidden = !['missing', 'storing', 'loading'].includes(state) || !about;
  at('loading').hidden = !['storing', 'loading'].includes(state);
  at('begin').hidden = state !== 'missing';
  at('gpu-choice').hidden = state !== 'missing' || !app.gpu;
  at('send').disabled = !['ready', 'answering'].includes(state);
  at('send').hidden = state === 'answering';
  at('stop').hidden = state !== 'answering';
  at('turns').setAttribute('aria-busy', String(state === 'answering'));
}
