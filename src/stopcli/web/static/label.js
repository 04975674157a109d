// labels: each key is on the disk before the grid moves on
import {piece, send, status} from './server.js';
import {ask, busy, say, state, trying, untouched} from './state.js';
import {cards, current, place, row, show} from './grid.js';

const side = document.getElementById('side');
export const NONE = 'background';

let pressed = false, composing = false, shown = '', asked = 0;
side.addEventListener('pointerdown', () => { pressed = true; });
for (const what of ['pointerup', 'pointercancel']) addEventListener(what, () => { setTimeout(() => { pressed = false; }); });

side.addEventListener('compositionstart', () => { composing = true; });
side.addEventListener('compositionend', () => { composing = false; });

function choosing() {  // a list of choices is open
  try { return side.querySelector('select:open'); } catch { return null; }  // older browsers do not know
}

// a selector that finds the element again after its part of the page was replaced
function handle(element) {
  if (element.id) return `#${CSS.escape(element.id)}`;
  const known = ['label', 'rename', 'queue', 'do', 'run'].filter(name => element.dataset[name] !== undefined);
  return known.map(name => `[data-${name}="${CSS.escape(element.dataset[name])}"]`).join('') || null;
}

export async function showSide() {
  const {label, queue} = state.question, mine = ++asked;
  const html = await trying(() => piece(`/view/side?${new URLSearchParams({label: label ?? '', queue})}`));
  if (html === undefined || mine !== asked || html === shown) return;
  // a click is two events on one element, and so is a word that an input method composes
  while (pressed || composing || choosing()) await new Promise(done => setTimeout(done, 20));
  if (mine !== asked) return;
  // what a person is doing there goes on: what was typed, what was opened
  const typed = [...side.querySelectorAll('input')].map(box => [box.id, box.value]);
  const had = side.contains(document.activeElement) && handle(document.activeElement);
  const {selectionStart, selectionEnd, type} = document.activeElement;
  const caret = had && type === 'text' && [selectionStart, selectionEnd];
  const open = [...side.querySelectorAll('details[open]')].map(box => box.className);
  side.innerHTML = shown = html;
  for (const [id, text] of typed) { const box = document.getElementById(id); if (box && text) box.value = text; }
  for (const box of side.querySelectorAll('details')) box.open = open.includes(box.className);
  const again = had ? side.querySelector(had) : null;
  again?.focus();
  if (caret && again?.setSelectionRange) again.setSelectionRange(...caret);
}

// the table changes by this page: no news for it
async function changing(work) {
  state.changing += 1;
  try { return await work(); } finally { state.changing -= 1; }
}

async function judge(answers) {
  const {labels, sha256} = await changing(() => send('/api/judge', {answers}));
  [state.labels, state.table] = [labels, sha256];
}

// returns whether the label is on the disk
export async function giveMoment(moment, label, instead = moment) {
  return await trying(async () => {
    await judge(instead === moment ? {[moment]: label} : {[instead]: null, [moment]: label});
    const moved = instead === moment ? '' : ', with its new start and end';
    say(`${label === NONE ? 'None of the labels' : `Labelled “${label}”`}${moved}. U takes it back.`);
    return true;
  }) ?? false;
}

export async function give(card, label) {
  if (!card) return say('Choose a moment first: arrows move, Enter looks.', true);
  if (card.dataset.taken) return undefined;  // the same key again, before the grid moved on
  card.dataset.taken = 'yes';
  card.classList.add('labelled');
  const inGrid = card.closest('#results');
  const done = await giveMoment(card.dataset.id, label);
  if (!done || !inGrid) delete card.dataset.taken;  // outside the grid the card stays, for another label
  if (!done) {
    card.classList.remove('labelled');
    return undefined;
  }
  return trying(async () => {
    if (!inGrid) return showSide();
    const all = cards(), at = all.findIndex(one => one.dataset.id === card.dataset.id);
    const here = current();  // whoever has moved on stays there
    if (at >= 0 && !busy() && (!here || here.dataset.id === card.dataset.id)) (all[at + 1] ?? all[at - 1])?.focus({preventScroll: true});  // on to the next, whatever comes
    const {label: wanted, queue} = state.question;
    if (wanted === null && queue === 'best' && label !== NONE) {
      ask({label, queue: 'best'});  // from here on, answers rank
    } else {
      await show({keep: true});
    }
    return showSide();
  });
}

// the label of a digit; the first one is what was looked for, where there are none yet
export function labelOf(number) {
  const label = state.labels[number - 1];
  const query = state.question.query.trim().replace(/\s+/g, ' ');
  if (label) return label;
  if (number === 1 && query && !state.labels.length) return query.slice(0, 200);
  say(state.labels.length ? `There is no label ${number}.` : 'Add a label first, or search for something.', true);
  return null;
}

// the number of the label whose key this is: 1 to 10 by digits, 11 to 20 by the same keys' other characters
export function numberOf(event) {
  if (/^[0-9]$/.test(event.key)) return +event.key || 10;
  const place = /^Digit([0-9])$/.exec(event.code);
  return place ? (+place[1] || 10) + 10 : 0;
}

export function digit(number, card = current()) {
  const label = labelOf(number);
  if (label) give(card, label);
}

export async function accept() {
  const here = current();
  if (!here) return say('Choose a row first.', true);
  const answers = {}, counts = {}, taken = [];
  for (const card of row(here)) {
    const label = card.dataset.suggestion;
    if (!label || card.dataset.taken) continue;  // what was just judged is not what was suggested
    answers[card.dataset.id] = label;
    taken.push(card);
    counts[label] = (counts[label] ?? 0) + 1;
  }
  if (!Object.keys(answers).length) return say('Nothing is suggested for this row: label a few moments first.', true);
  const inGrid = here.closest('#results');
  for (const card of taken) card.dataset.taken = 'yes';
  const done = await trying(async () => {
    await judge(answers);
    say(Object.entries(counts).map(([label, count]) => `${count} labelled “${label}”`).join(', ') + '. U takes it back.');
    await show({keep: true});
    await showSide();
    return true;
  });
  if (!done || !inGrid) for (const card of taken) delete card.dataset.taken;  // as `give` does
}

export async function undo() {
  const still = untouched();
  await trying(async () => {
    const before = state.labels;
    const [back, found] = await changing(async () => [await send('/api/undo'), await status()]);
    [state.labels, state.table] = [found.labels, found.sha256];
    const renamed = before.join('\n') !== found.labels.join('\n') ? 'Taken back: the new name.' : 'Nothing to take back.';
    say(back.length ? `Taken back: ${back.length === 1 ? 'one moment' : `${back.length} moments`}.` : renamed);
    await show({keep: true});
    await showSide();
    for (const card of cards(place())) if (back.includes(card.dataset.id)) card.classList.remove('labelled');
    if (still()) cards(place()).find(card => back.includes(card.dataset.id))?.focus();
  });
}

side.addEventListener('submit', event => {
  event.preventDefault();
  const box = side.querySelector('#new-label');
  if (!box.value.trim()) return;
  trying(async () => {
    state.labels = await send('/api/labels', {name: box.value});
    box.value = '';
    await showSide();
    side.querySelector('#new-label').focus();
  });
});

async function rename(old) {
  const name = prompt(`Rename “${old}” to (a label that is there already takes its moments in)`, old)?.trim();
  if (!name || name === old) return;
  await trying(async () => {
    state.labels = await changing(() => send('/api/labels/rename', {name: old, to: name}));
    state.table = null;  // as this page has changed it
    say(`“${old}” is now “${name}”. U takes it back.`);
    if (state.question.label === old) ask({label: name}); else await show({keep: true});
    await showSide();
  });
}

side.addEventListener('click', event => {
  const label = event.target.closest('button[data-label]'), queue = event.target.closest('[data-queue]');
  const renamed = event.target.closest('[data-rename]');
  if (renamed) {
    rename(renamed.dataset.rename);
  } else if (label) {
    const name = label.dataset.label;
    ask({label: state.question.label === name ? null : name, queue: 'best', top_k: 24});
    showSide();
  } else if (queue) {
    ask({queue: queue.dataset.queue, top_k: 24});
    showSide();
  }
});
