// the page: the search field, the keys, what a click on a moment does
import {send, sendPicture} from './server.js';
import {ask, on, say, state, trying} from './state.js';
import {cards, current, focus, move, place, show, toggle} from './grid.js';
import * as look from './look.js';
import {accept, digit, give, NONE, showSide, undo} from './label.js';
import {begin} from './adapt.js';

const form = document.getElementById('search');
const field = document.getElementById('query');
const help = document.getElementById('help');
const chips = document.getElementById('chips');
const filters = document.getElementById('filters');

// --- the question ---

on('question', () => { drawChips(); show({keep: true}); });

function filterValues() {
  const values = {};
  for (const name of ['min_duration', 'max_duration', 'per_file', 'min_confidence']) {
    const text = form.elements[name].value;
    values[name] = text === '' ? (name === 'min_confidence' ? 0 : null) : +text;
  }
  values.glob = form.elements.glob.value || null;
  values.unlike = form.elements.unlike.value.trim() ? [form.elements.unlike.value] : [];
  values.fold = form.elements.fold.checked;
  const set = values.glob || values.unlike.length || !values.fold || values.min_confidence
    || values.min_duration !== null || values.max_duration !== null || values.per_file !== null;
  filters.classList.toggle('set', Boolean(set));
  return values;
}

form.addEventListener('submit', event => {
  event.preventDefault();
  filters.open = false;
  ask({...filterValues(), query: field.value, label: null, queue: 'best', top_k: 24});
  showSide();
  if (document.activeElement === field) field.blur();
});
field.addEventListener('search', () => { if (!field.value) ask({query: ''}); });

function chip(kind, name, words, remove) {
  const box = document.createElement('span');
  box.className = `chip ${kind}`;
  box.append(words);
  const button = Object.assign(document.createElement('button'), {type: 'button', textContent: '×'});
  button.setAttribute('aria-label', `Remove ${words}`);
  button.addEventListener('click', remove);
  box.append(button);
  return box;
}

function drawChips() {
  const {like, unlike_moments, picture} = state.question;
  chips.replaceChildren(
    ...(picture ? [chip('like', picture, state.names[picture], () => ask({picture: null}))] : []),
    ...like.map(id => chip('like', id, `like ${state.names[id]}`, () => ask({like: like.filter(x => x !== id)}))),
    ...unlike_moments.map(id => chip('not', id, `not ${state.names[id]}`,
      () => ask({unlike_moments: unlike_moments.filter(x => x !== id)}))),
  );
}

function nameOf(card) { return card.querySelector('.name')?.textContent ?? 'a moment'; }

function more(card) {
  state.names[card.dataset.id] = nameOf(card);
  const {like} = state.question;
  ask({like: [...new Set([...like, card.dataset.id])].slice(-20), label: null, queue: 'best'});
}

function not(card) {
  state.names[card.dataset.id] = nameOf(card);
  const {unlike_moments, query, like, picture} = state.question;
  if (!query.trim() && !like.length && !picture) return say('Search for something first: “not this” narrows a search.', true);
  ask({unlike_moments: [...new Set([...unlike_moments, card.dataset.id])].slice(-50), label: null, queue: 'best'});
}

// --- pictures ---

async function usePicture(file) {
  if (!file?.type.startsWith('image/')) return say('That is no picture.', true);
  await trying(async () => {
    const {picture} = await sendPicture(file);
    state.names[picture] = file.name || 'picture';
    ask({picture, label: null, queue: 'best'});
  });
}
document.getElementById('picture').addEventListener('change', event => {
  usePicture(event.target.files[0]);
  event.target.value = '';
});
const drop = document.getElementById('drop');
addEventListener('dragover', event => { event.preventDefault(); drop.hidden = false; });
addEventListener('dragleave', event => { if (!event.relatedTarget) drop.hidden = true; });
addEventListener('drop', event => { event.preventDefault(); drop.hidden = true; usePicture(event.dataTransfer.files[0]); });
addEventListener('paste', event => { if (event.clipboardData?.files[0]) usePicture(event.clipboardData.files[0]); });

// --- moments ---

document.addEventListener('click', event => {
  const card = event.target.closest('.card');
  const what = event.target.closest('[data-do]')?.dataset.do;
  if (card && what === 'more') more(card);
  else if (card && what === 'not') not(card);
  else if (card && what === 'accept') give(card, card.dataset.suggestion);
  else if (card && (what === 'look' || event.target.closest('.screen'))) { card.focus(); look.open(card); }
  else if (what === 'take') take(event.target.closest('.take').querySelector('select').value);
  else if (what === 'further') ask({top_k: Math.min(500, state.question.top_k + 24)});
  else if (what === 'redraw') trying(async () => { await send('/api/audit', {label: state.question.label}); await show(); });
});

async function take(kind) {
  await trying(async () => {
    const moments = cards().map(card => card.dataset.id);
    let job = await send('/api/take', {moments, kind, name: state.question.label ?? state.question.query});
    say('Writing …');
    while (job.state === 'waiting' || job.state === 'running') {
      await new Promise(done => setTimeout(done, 200));
      job = (await (await fetch('/api/jobs')).json()).find(other => other.id === job.id) ?? job;
    }
    if (job.state !== 'done') throw new Error(job.words || 'it was stopped');
    const link = Object.assign(document.createElement('a'), {href: `/taken/${job.result}`, download: ''});
    document.body.append(link);
    link.click();
    link.remove();
    say('Downloaded.');
  });
}

// --- keys ---

const typing = target => target.closest?.('input:not([type=checkbox]):not([type=file]), textarea, select');

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (typing(event.target)) {
    if (event.key === 'Escape') event.target.blur();
    if (event.key === '/' && event.target === field && !field.value) event.preventDefault();  // it is where one wants to be
    return;
  }
  const pressed = event.target.closest?.('button, a, summary') && (event.key === 'Enter' || event.key === ' ');
  if (pressed || help.open) return;
  if (look.isOpen()) {
    if (look.key(event)) event.preventDefault();
    return;
  }
  const card = current();
  const known = {
    '/': () => { field.focus(); field.select(); },
    '?': () => help.showModal(),
    Enter: () => card && look.open(card),
    ' ': () => card && toggle(card),
    m: () => card && more(card),
    n: () => card && not(card),
    x: () => give(card, NONE),
    u: undo,
    a: accept,
    ArrowLeft: () => move(event.key), ArrowRight: () => move(event.key),
    ArrowUp: () => move(event.key), ArrowDown: () => move(event.key),
  }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (known) { event.preventDefault(); known(); }
  else if (/^[1-9]$/.test(event.key)) { event.preventDefault(); digit(+event.key); }
});

document.getElementById('help-button').addEventListener('click', () => help.showModal());
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('click', event => { if (event.target === dialog) dialog.close(); });
}

// --- begin ---

const {query, label, side} = document.body.dataset;
field.value = query;
Object.assign(state.question, {query, label: side === 'label' && label ? label : null});
begin();
show().then(() => focus(cards(place())[0]));
