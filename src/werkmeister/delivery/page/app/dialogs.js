// The page's one dialog: asks something and says what was chosen.
import { make } from './make.js';

const dialog = document.querySelector('#dialog');
const part = (name) => document.querySelector(`#dialog-${name}`);

/** Show `body` (nodes) under a title; true when the person says yes. Without `yes` it can only be closed. */
export function ask({ title, body = [], yes = '', no }) {
  part('title').textContent = title;
  part('body').replaceChildren(...body);
  part('yes').textContent = yes;
  part('yes').hidden = !yes;
  part('no').textContent = no;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}

/** Ask for one line of text; null when the person thinks better of it. */
export async function askText({ title, label, value = '', note = '', secret = false, yes, no }) {
  const input = make('input', { id: 'dialog-input', type: secret ? 'password' : 'text', value, autocomplete: 'off' });
  const body = [make('label', { htmlFor: 'dialog-input' }, [label]), input, ...(note ? [make('p', { className: 'soft' }, [note])] : [])];
  // Enter in a line of text means yes, though "no" stands first.
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.isComposing) return;
    event.preventDefault();
    dialog.close('yes');
  });
  const answered = ask({ title, body, yes, no });
  input.focus();
  input.select();
  return (await answered) ? input.value : null;
}

/** Close it, as if the person had. */
export const close = () => dialog.close('');
