// the grid of moments: asked for, shown, moved through, played in a loop while they are in sight
import {piece} from './server.js';
import {say, state, tell} from './state.js';

const results = document.getElementById('results');
const still = matchMedia('(prefers-reduced-motion: reduce)');
const MOST_PLAYING = 6;
let asked = 0;

export const cards = (place = results) => [...place.querySelectorAll('.card')];
export const place = () => document.querySelector('dialog[open]') ?? results;
export const current = () => document.activeElement?.closest?.('.card');

export function focus(card) {
  if (!card) return;
  card.focus({preventScroll: true});
  card.scrollIntoView({block: 'nearest', behavior: still.matches ? 'auto' : 'smooth'});
}

export async function show({keep = false} = {}) {
  const mine = ++asked;
  results.setAttribute('aria-busy', 'true');
  try {
    const html = await piece('/view/moments', state.question);
    if (mine !== asked) return;  // a later question has been asked
    const was = current()?.closest('#results') && current();
    const here = cards().indexOf(was), id = was?.dataset.id;
    results.innerHTML = html;
    restore();
    for (const card of cards()) watcher.observe(card);
    const same = id && cards().find(card => card.dataset.id === id);
    if (keep && was) focus(same ?? cards()[Math.min(here, cards().length - 1)]);
  } catch (error) {
    if (mine !== asked) return;
    say(error.message, true);
    if (state.question.picture) tell('unreadable');
  } finally {
    if (mine === asked) results.setAttribute('aria-busy', 'false');
  }
}

// how moments are downloaded stays as it was chosen
function restore() {
  const form = results.querySelector('.take');
  if (!form) return;
  const kind = form.querySelector('[name=kind]'), unsure = form.querySelector('[name=unsure]');
  if (state.taking.kind) kind.value = state.taking.kind;
  unsure.checked = Boolean(state.taking.unsure);
  form.addEventListener('change', () => { state.taking = {kind: kind.value, unsure: unsure.checked}; });
}

export function row(card) {
  const top = card.offsetTop;
  return cards(place()).filter(other => Math.abs(other.offsetTop - top) < 4);
}

export function move(key) {
  const all = cards(place());
  const here = all.indexOf(current());
  if (here < 0) return focus(all[0]);
  const across = row(all[here]).length || 1;
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across}[key];
  focus(all[Math.min(all.length - 1, Math.max(0, here + step))]);
}

// --- loops ---

function loop(card) {
  const screen = card.querySelector('.screen');
  let video = screen.querySelector('video');
  if (!video) {
    video = document.createElement('video');
    Object.assign(video, {muted: true, loop: true, playsInline: true, tabIndex: -1});
    video.src = `/media/${card.dataset.file}/loop?start=${card.dataset.start}&end=${card.dataset.end}`;
    video.addEventListener('playing', () => video.classList.add('ready'));
    video.addEventListener('error', () => { video.remove(); screen.classList.add('still'); });
    screen.prepend(video);
  }
  return video;
}

export function play(card) {
  if (!card || card.querySelector('.still')) return;
  const video = loop(card);
  const playing = [...document.querySelectorAll('.card video')].filter(other => other !== video && !other.paused);
  for (const other of playing.slice(0, Math.max(0, playing.length - MOST_PLAYING + 1))) other.pause();
  video.play().catch(() => {});
}

export function toggle(card) {
  const video = card?.querySelector('.screen video');
  if (video && !video.paused) video.pause(); else play(card);
}

const watcher = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    if (!isIntersecting) target.querySelector('.screen video')?.pause();
    else if (!still.matches) waiting.add(target);
  }
  next();
}, {threshold: .6});
const waiting = new Set();

function next() {
  // two at a time, the first in sight first: labels must not wait behind films
  const [card] = waiting;
  if (!card || loading >= 2) return;
  waiting.delete(card);
  if (!card.isConnected || card.querySelector('.still')) return next();
  const video = loop(card);
  if (video.readyState < 3) {
    loading += 1;
    const over = () => { loading -= 1; next(); };
    const stop = new AbortController();
    for (const what of ['canplay', 'error', 'abort', 'emptied']) {
      video.addEventListener(what, () => { stop.abort(); over(); }, {signal: stop.signal});
    }
  }
  play(card);
  next();
}
let loading = 0;

results.addEventListener('pointerover', event => play(event.target.closest('.card')));
document.addEventListener('focusin', event => play(event.target.closest?.('.card')));
