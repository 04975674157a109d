"""Where a clip moves, once the movement of the camera is taken out: no parameters, no training.

Letters: B videos, T frames, N pairs of frames, S side in pixels, P = g*g patches a frame, D width of
the vision tower. A view is an affine map (2,3) of picture coordinates, which run from -1 to 1 as in
`torch.nn.functional.affine_grid`: where a point of one picture is found in another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

SIDE = 64  # pixels: the camera is estimated on small grey pictures, whatever the tower's size
PEAKS = 4  # shifts tried for each pair of frames, besides none
ROUGH = {16: 3, 32: 4}  # Gauss-Newton steps at each side, from one frame to the next
FINE = {32: 3, SIDE: 2}  # ... and then from the middle of the shot to each frame
CELLS = 8  # a side: they vote on how well two pictures agree
SHARE = 0.7  # ... and this share of them, the best: the rest may hold what moves
CUT = 0.6  # share of the contrast left unexplained from which on two frames are of different shots
SURE = 0.25  # ... up to which the alignment is trusted in full
OVERLAP = 1 / 3  # share of the picture that a view must have in common with its shot's first frame
COMMON = 0.25  # ... and two pictures, to be compared
SEEN = 0.6  # share of a patch that must lie within the picture
FAINT = 0.2  # units of normalised tokens: less energy than this within a frame is not stretched to [0,1]


@dataclass(frozen=True)
class Motion:
    """What moves in clips, and how far that can be trusted."""

    energy: Tensor
    """(B,T,P), not negative: how far each patch stands from its own mean over the shot."""
    certainty: Tensor
    """(B,T) in [0,1]: 0 where the camera could not be followed, or a shot has one frame only."""
    shots: Tensor
    """(B,T), each frame's shot, as the number of its first frame: only frames of a shot are compared."""

    def strength(self) -> Tensor:
        """Return the energy within each frame, as far as it is certain: (B,T,P) in [0,1]."""
        return self.certainty.unsqueeze(-1) * unit(self.energy, FAINT)


@torch.no_grad()
def find_motion(pixels: Tensor, grid: tuple[int, int], tokens_of: Callable[[Tensor], Tensor]) -> Motion:
    """Find what moves in normalised frames (B,T,3,S,S); ``tokens_of`` turns pictures (N,3,S,S) into (N,P,D).

    All frames of a shot are brought to the place of its middle one. A patch's energy is the distance of its
    token from the mean over the frames that see the place, plus half of its mean over the shot.
    """
    b, t = pixels.shape[:2]
    pixels = pixels.float()
    grey = F.interpolate(pixels.mean(2), (SIDE, SIDE), mode="area")  # (B,T,64,64)
    views, doubt = follow_camera(grey)
    first, doubt = _shots(views, doubt)
    same = (first[:, :, None] == first[:, None]).float()  # (B,T,T)
    size = same.sum(-1)
    middle = first + (size.long() - 1) // 2  # (B,T): the frame at whose place the shot is compared
    rows = torch.arange(b, device=pixels.device)[:, None]
    view = _compose(views, _inverse(views[rows, middle])).flatten(0, 1)  # (B*T,2,3)
    pictures, middles = (rearrange(x, "b t h w -> (b t) 1 h w") for x in (grey, grey[rows, middle]))
    view, _ = _improve(middles, pictures, view, FINE)
    aligned, inside = _look(pixels.flatten(0, 1), view)
    tokens = rearrange(tokens_of(aligned).float(), "(b t) p d -> b t p d", t=t)
    seen = rearrange(F.adaptive_avg_pool2d(inside, grid), "(b t) 1 h w -> b t (h w)", t=t) > SEEN
    count = torch.einsum("btu,bup->btp", same, seen.float()).clamp_min(1)
    mean = torch.einsum("btu,bupd->btpd", same, tokens * seen.unsqueeze(-1)) / count.unsqueeze(-1)
    energy = (tokens - mean).square().mean(-1).sqrt() * seen
    energy = energy + 0.5 * torch.einsum("btu,bup->btp", same, energy) / count
    back, _ = _look(rearrange(energy, "b t (h w) -> (b t) 1 h w", h=grid[0]), _inverse(view))
    certainty = ((CUT - doubt) / (CUT - SURE)).clamp(0, 1) * (size > 1)
    return Motion(rearrange(back, "(b t) 1 h w -> b t (h w)", t=t), certainty, first)


def follow_camera(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Follow the camera through grey frames (B,T,64,64).

    Returns:
        Views (B,T,2,3) of each frame, from the first one's coordinates. Doubt (B,T-1): the share of the
        contrast that the aligned frames leave unexplained; near 0 if they agree, near 1 across a cut.
    """
    b, t = grey.shape[:2]
    views = [torch.eye(2, 3, device=grey.device).expand(b, 2, 3)]
    if t == 1:
        return torch.stack(views, 1), grey.new_zeros(b, 0)
    before, after = (rearrange(x, "b t h w -> (b t) 1 h w") for x in (grey[:, :-1], grey[:, 1:]))
    steps, doubt = _align(before, after)
    for step in rearrange(steps, "(b t) r c -> t b r c", b=b):
        views.append(_compose(step, views[-1]))
    return torch.stack(views, 1), rearrange(doubt, "(b t) -> b t", b=b)


def _align(a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Find the view (N,2,3) at which pictures c (N,1,64,64) look like a, and the doubt about it (N)."""
    shifts = torch.stack([torch.zeros(len(a), 2, device=a.device), *_peaks(a, c)])
    candidates = [_shift(xy) for xy in shifts]
    small_a, small_c = F.avg_pool2d(a, 2), F.avg_pool2d(c, 2)
    costs = torch.stack([_disagreement(small_a, small_c, view) for view in candidates])
    costs[0] *= 0.98  # of equals, the camera that stands still
    start = torch.stack(candidates)[costs.argmin(0), torch.arange(len(a), device=a.device)]
    view, cost = _improve(a, c, start, ROUGH)
    cells = torch.stack([_cells((x - x.mean((2, 3), keepdim=True)).abs()) for x in (a, c)])
    cells = cells.flatten(2).sort(2).values  # (2,N,cells)
    contrast = cells[..., : int(cells.shape[2] * SHARE)].mean(2).amax(0)
    return view, cost / (contrast + 0.02)


def _peaks(a: Tensor, c: Tensor) -> list[Tensor]:
    """Return the likeliest shifts, each (N,2) as x, y: the peaks of the phase correlation."""
    side = a.shape[-1]
    w = torch.hann_window(side, periodic=False, device=a.device)
    fa, fc = (torch.fft.rfft2((x - x.mean((2, 3), keepdim=True)).squeeze(1) * w * w[:, None]) for x in (a, c))
    cross = fc * fa.conj()
    peaks = torch.fft.irfft2(cross / cross.abs().clamp_min(1e-6), s=(side, side))
    peaks = F.pad(peaks.unsqueeze(1), (1, 1, 1, 1), mode="circular")
    peaks = F.avg_pool2d(F.avg_pool2d(peaks, 2, 1), 2, 1).flatten(1)  # weights 1, 2, 1 on each axis
    out = []
    for _ in range(PEAKS):
        at = peaks.argmax(1)
        peaks = peaks.scatter(1, at[:, None], float("-inf"))
        xy = torch.stack([at % side, at // side], -1)
        out.append(2.0 * torch.where(xy > side // 2, xy - side, xy) / side)
    return out


def _improve(a: Tensor, c: Tensor, view: Tensor, steps: dict[int, int]) -> tuple[Tensor, Tensor]:
    """Return views refined where that pays, and how far the pictures still disagree: (N,2,3), (N)."""
    cost = _disagreement(a, c, view)
    refined = _refine(a, c, view, cost, steps)
    refined_cost = _disagreement(a, c, refined)
    better = refined_cost < 0.95 * cost
    return torch.where(better[:, None, None], refined, view), torch.where(better, refined_cost, cost)


def _refine(a: Tensor, c: Tensor, view: Tensor, cost: Tensor, plan: dict[int, int]) -> Tensor:
    """Refine views by Gauss-Newton on the six affine parameters, from coarse to fine.

    The inverse compositional form: the slopes are those of a, computed once. Pixels that disagree by more
    than the pictures do on the whole weigh little (Geman-McClure): what moves by itself does not pull.
    """
    scale = (1.5 * cost + 0.01).square().unsqueeze(1)
    still, no_change = torch.eye(2, 3, device=a.device), 1e-4 * torch.eye(6, device=a.device)
    for side, steps in plan.items():
        small_a, small_c = (F.interpolate(x, (side, side), mode="area") for x in (a, c))
        x, y = _coordinates(side, side, a.device)
        basis = torch.stack([x, y, torch.ones_like(x)], -1).flatten(0, 1)  # (side*side,3)
        pairs = (basis[:, :, None] * basis[:, None]).flatten(1)  # (side*side,9)
        slope = [(small_a.roll(-1, d) - small_a.roll(1, d)).flatten(1) * side / 4 for d in (-1, -2)]
        g = torch.stack(slope, 1)  # (N,2,side*side), along x and y
        gg = (g[:, :, None] * g[:, None]).flatten(1, 2)  # (N,4,side*side)
        edge = F.pad(torch.ones(side - 2, side - 2, device=a.device), (1, 1, 1, 1)).flatten()
        for _ in range(steps):
            seen, inside = _look(small_c, view)
            r = (seen - small_a).flatten(1)
            weight = edge * inside.flatten(1) * (scale / (scale + r.square())).square()
            # sums over pixels of g g^T x basis basis^T and of g r x basis: the normal equations
            normal = rearrange((gg * weight[:, None]) @ pairs, "n (p q) (i j) -> n (p i) (q j)", p=2, i=3)
            damp = (
                1e-3 * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(6, device=a.device)
            )
            right = ((g * (weight * r)[:, None]) @ basis).flatten(1)
            delta, _ = torch.linalg.solve_ex(normal + damp + side * side * no_change, right)
            view = _compose(view, _inverse(still + delta.view(-1, 2, 3).clamp(-0.25, 0.25)))
    return view


def _disagreement(a: Tensor, c: Tensor, view: Tensor) -> Tensor:
    """Return how far pictures c, seen through views, are from pictures a, in their best cells: (N)."""
    seen, inside = _look(c, view)
    share = _cells(inside).flatten(1)
    cells = _cells((seen - a).abs() * inside).flatten(1) / share.clamp_min(1e-6)
    valid = share > 0.5
    cells = cells.masked_fill(~valid, float("inf")).sort(1).values  # (N,cells)
    count = (valid.sum(1, keepdim=True) * SHARE).floor().clamp_min(1)
    kept = torch.arange(cells.shape[1], device=a.device) < count
    mean = cells.masked_fill(~kept, 0.0).sum(1) / count.squeeze(1)
    return mean.masked_fill(valid.float().mean(1) <= COMMON, 1e3)


def _cells(x: Tensor) -> Tensor:
    """Average over cells: (N,1,S,S) -> (N,1,8,8)."""
    return F.avg_pool2d(x, x.shape[-1] // CELLS)


def _shots(views: Tensor, doubt: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first frame of each frame's shot, and the shot's mean doubt: (B,T) each."""
    b, t = views.shape[:2]
    rows = torch.arange(b, device=views.device)
    first = [torch.zeros(b, dtype=torch.long, device=views.device)]
    for i in range(1, t):
        since = _compose(views[:, i], _inverse(views[rows, first[-1]]))
        new = (doubt[:, i - 1] >= CUT) | (_overlap(since) < OVERLAP)
        first.append(torch.where(new, i, first[-1]))
    shot = torch.stack(first, 1)
    inner = (shot[:, 1:] == shot[:, :-1]).float()  # (B,T-1): steps within a shot
    of_step = (shot[:, :, None] == shot[:, None, 1:]).float() * inner[:, None]  # (B,T,T-1)
    return shot, (of_step * doubt[:, None]).sum(-1) / of_step.sum(-1).clamp_min(1)


def _overlap(view: Tensor) -> Tensor:
    """Return which share of the picture a view (N,2,3) still sees, by 9 x 9 points: (N)."""
    x, y = _coordinates(9, 9, view.device)
    points = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    return ((view @ points).abs() <= 1).all(1).float().mean(1)


def _shift(xy: Tensor) -> Tensor:
    """Turn shifts (N,2) into views (N,2,3)."""
    return torch.cat([torch.eye(2, device=xy.device).expand(len(xy), 2, 2), xy[..., None]], -1)


def _square(view: Tensor) -> Tensor:
    last = torch.eye(3, device=view.device)[2:].expand(*view.shape[:-2], 1, 3)
    return torch.cat([view, last], -2)


def _compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the view that looks through ``inner`` first: (...,2,3)."""
    return outer @ _square(inner)


def _inverse(view: Tensor) -> Tensor:
    """Return the view back: (...,2,3). In closed form, for a library's inverse makes a GPU wait."""
    (a, b, c), (d, e, f) = (row.unbind(-1) for row in view.unbind(-2))
    det = a * e - b * d
    det = torch.where(det.abs() < 1e-12, torch.full_like(det, 1e-12), det)
    first = torch.stack([e, -b, b * f - c * e], -1)
    return torch.stack([first, torch.stack([-d, a, c * d - a * f], -1)], -2) / det[..., None, None]


def _coordinates(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return x and y of the pixels' middles, (H,W) each."""
    x, y = ((torch.arange(n, device=device) + 0.5) * 2 / n - 1 for n in (width, height))
    return x.expand(height, width), y[:, None].expand(height, width)


def _look(pictures: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
    """Sample pictures (N,C,H,W) through views; also tell where they are seen, (N,1,H,W) of 0 and 1."""
    height, width = pictures.shape[2:]
    x, y = _coordinates(height, width, pictures.device)
    (a, b, c), (d, e, f) = view.permute(1, 2, 0)[..., None, None]
    u, v = a * x + b * y + c, d * x + e * y + f  # `affine_grid`, several times as fast
    seen = F.grid_sample(pictures, torch.stack([u, v], -1), align_corners=False, padding_mode="border")
    return seen, ((u.abs() <= 1) & (v.abs() <= 1)).float().unsqueeze(1)


def unit(x: Tensor, least: float = 1e-12) -> Tensor:
    """Scale to [0,1] over the last axis; a range below ``least`` is not stretched, equal values become 0."""
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    return (x - low) / (high - low).clamp_min(least)
