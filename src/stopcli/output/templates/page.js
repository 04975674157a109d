// arrows and j/k move between the cards, Enter or Space plays
const cards = [...document.querySelectorAll('.cards li')];
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = {ArrowRight: 1, ArrowDown: 1, j: 1, ArrowLeft: -1, ArrowUp: -1, k: -1}[event.key];
  const here = cards.findIndex(card => card.contains(document.activeElement));
  if (step) {
    if (document.activeElement.tagName === 'VIDEO') return;
    const next = cards[Math.min(cards.length - 1, Math.max(0, here + step))];
    if (next) { next.focus(); next.scrollIntoView({block: 'nearest'}); event.preventDefault(); }
  } else if ((event.key === 'Enter' || event.key === ' ') && document.activeElement === cards[here]) {
    const video = cards[here]?.querySelector('video');
    if (video) { video.paused ? video.play() : video.pause(); event.preventDefault(); }
  }
});
document.querySelectorAll('a[data-at]').forEach(link => link.addEventListener('click', event => {
  const video = document.getElementById(link.dataset.video);
  if (video) { video.currentTime = +link.dataset.at; video.play(); event.preventDefault(); }
}));
