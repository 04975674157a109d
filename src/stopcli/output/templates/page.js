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
    if (video) { video.paused ? play(video) : video.pause(); event.preventDefault(); }
  }
});
// the picture stays unobstructed until somebody plays it; a moment is played in a loop
function play(video, at) {
  const start = at ?? +video.dataset.start;
  const screen = video.closest('.screen');
  if (at !== undefined || video.currentTime < start) video.currentTime = start || 0;
  video.controls = true;
  screen.classList.add('playing');
  video.play().catch(() => {});
}
for (const screen of document.querySelectorAll('.screen')) {
  const video = screen.querySelector('video');
  screen.querySelector('.play')?.addEventListener('click', () => play(video));
  const cannot = () => { screen.classList.add('playing'); screen.querySelector('.cannot').hidden = false; video.controls = false; };
  video?.addEventListener('error', cannot);
  video?.addEventListener('loadeddata', () => { if (!video.videoWidth) cannot(); });
  video?.addEventListener('timeupdate', () => {
    const end = +video.dataset.end;
    if (end && video.currentTime >= end && video.currentTime < end + 1) video.currentTime = +video.dataset.start;
  });
}
document.querySelectorAll('a[data-at]').forEach(link => link.addEventListener('click', event => {
  const video = document.getElementById(link.dataset.video);
  if (video) { play(video, +link.dataset.at); event.preventDefault(); }
}));
