// what the page shows: one question, changed by many hands, asked again whenever it changes

export const state = {
  question: {query: '', like: [], unlike_moments: [], picture: null, label: null, queue: 'best', top_k: 24},
  names: {},   // of moments and pictures in the question, for people
  labels: [],
  changing: 0,  // requests of this page that change the table
  table: null,  // a hash of the table, as this page has shown it
  taking: {},   // how moments are downloaded
};

const listeners = {};

export function on(what, call) { (listeners[what] ??= []).push(call); }

export function tell(what, value) { for (const call of listeners[what] ?? []) call(value); }

export function ask(change) {
  Object.assign(state.question, change);
  tell('question');
}

let timer;
const box = document.getElementById('status'), home = box.parentElement;
export function say(words, bad = false, stays = false) {
  if (box.isConnected && box.matches(':popover-open')) box.hidePopover();
  (document.querySelector('dialog[open]') ?? home).append(box);  // what lies outside an open dialog is read to nobody
  box.className = bad ? 'bad' : '';
  box.textContent = '';
  box.showPopover();  // above whatever dialog is open
  box.textContent = words;
  clearTimeout(timer);
  if (!stays) timer = setTimeout(() => { if (box.isConnected) box.hidePopover(); }, bad ? 9000 : 3500);
}

// before a dialog is emptied: what was said in it stays to be seen
export function keepSaid(dialog) {
  if (!dialog.contains(box)) return;
  const shown = box.matches(':popover-open');
  home.append(box);
  if (shown) box.showPopover();
}

// whether an element takes what is typed; and whether a person writes now: nothing may take the focus away
export const typing = target => target?.closest?.('input:not([type=checkbox]):not([type=file]), textarea, select');
export const busy = () => Boolean(typing(document.activeElement));

// returns what tells whether a person has done nothing since: what comes late must not come in between
let acts = 0;
for (const what of ['keydown', 'pointerdown']) {
  addEventListener(what, event => { if (!['Shift', 'Control', 'Alt', 'Meta'].includes(event.key)) acts += 1; }, true);
}
export function untouched() {
  const then = acts;
  return () => then === acts;
}

export async function trying(work) {
  try { return await work(); } catch (error) { say(error.message, true); return undefined; }
}
