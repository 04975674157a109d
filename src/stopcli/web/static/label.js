// labels: each key is on the disk before the grid moves on
import {piece, send} from './server.js';
import {ask, say, state, trying} from './state.js';
import {cards, current, place, row, show} from './grid.js';

const side = document.getElementById('side');
export const NONE = 'background';

let pressed = false, shown = '', asked = 0;
side.addEventListener('pointerdown', () => { pressed = true; });
addEventListener('pointerup', () => { setTimeout(() => { pressed = false; }); });

export async function showSide() {
  const {label, queue} = state.question, mine = ++asked;
  const html = await trying(() => piece(`/view/side?${new URLSearchParams({label: label ?? '', queue})}`));
  if (html === undefined || mine !== asked || html === shown) return;
  while (pressed) await new Promise(done => setTimeout(done, 20));  // a click is two events on one element
  // what a person is doing there goes on: what was typed, what was opened
  const typed = [...side.querySelectorAll('input')].map(box => [box.id, box.value]);
  const had = document.activeElement?.id;
  const open = [...side.querySelectorAll('details[open]')].map(box => box.className);
  side.innerHTML = shown = html;
  for (const [id, text] of typed) { const box = document.getElementById(id); if (box && text) box.value = text; }
  for (const box of side.querySelectorAll('details')) box.open = open.includes(box.className);
  if (had && side.querySelector(`#${CSS.escape(had)}`)) document.getElementById(had).focus();
}

async function judge(moments, label) {
  const {labels} = await send('/api/judge', {moments, label});
  state.labels = labels;
}

export async function give(card, label) {
  if (!card) return say('Choose a moment first: arrows move, Enter looks.', true);
  const inGrid = card.closest('#results');
  await trying(async () => {
    await judge([card.dataset.id], label);
    say(label === NONE ? 'None of the labels.' : `Labelled “${label}”. U takes it back.`);
    if (!inGrid) { card.classList.add('labelled'); await showSide(); return; }
    if (state.question.label === null && label !== NONE) {
      ask({label, queue: 'best'});  // from here on, answers rank
    } else {
      await show({keep: true});
    }
    await showSide();
  });
}

export async function digit(number, card = current()) {
  const label = state.labels[number - 1];
  if (label) return give(card, label);
  const query = state.question.query.trim();
  if (number === 1 && query) return give(card, query.slice(0, 200));  // the first label is what was looked for
  say(number === 1 ? 'Add a label first, or search for something.' : `There is no label ${number}.`, true);
}

export async function accept() {
  const here = current();
  if (!here) return say('Choose a row first.', true);
  const chosen = state.question.label;
  const groups = {};
  for (const card of row(here)) {
    const label = card.dataset.suggestion || chosen;
    if (label) (groups[label] ??= []).push(card.dataset.id);
  }
  if (!Object.keys(groups).length) return say('Nothing is suggested yet: label a few moments first.', true);
  await trying(async () => {
    for (const [label, moments] of Object.entries(groups)) await judge(moments, label);
    say(Object.entries(groups).map(([label, ids]) => `${ids.length} labelled “${label}”`).join(', ') + '.');
    await show({keep: true});
    await showSide();
  });
}

export async function undo() {
  await trying(async () => {
    const back = await send('/api/undo');
    say(back.length ? 'Taken back.' : 'There is nothing to take back.', !back.length);
    await show({keep: true});
    await showSide();
    cards(place()).find(card => back.includes(card.dataset.id))?.focus();
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

side.addEventListener('click', event => {
  const label = event.target.closest('button[data-label]'), queue = event.target.closest('[data-queue]');
  if (label) {
    const name = label.dataset.label;
    ask({label: state.question.label === name ? null : name, queue: 'best', top_k: 24});
    showSide();
  } else if (queue) {
    ask({queue: queue.dataset.queue, top_k: 24});
    showSide();
  }
});
