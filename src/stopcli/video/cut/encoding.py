"""Pictures of a moment encoded again, in the codec that they came in.

H.264 can be joined: only what stands before the first key frame, and after the last, is encoded, with
parameter sets of another number (ITU-T H.264, 7.4.1.2.1), so that both kinds of pictures find theirs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from stopcli.errors import UnreadableVideo
from stopcli.video.container import Container, rate_of
from stopcli.video.cut.h264 import begins_anew, joint_header, prefixed
from stopcli.video.cut.moment import Moment, decoding_stamps, from_key, is_raw, stamp_of, times_pictures
from stopcli.video.cut.streams import add_stream, describe
from stopcli.video.cut.upright import TURNS, Upright, is_turned
from stopcli.video.pixels import is_clear, nearest_format

ENCODERS = {  # by decoder: FFmpeg's encoder, and how it makes pictures that nobody tells from their source
    "h264": ("libx264", {"crf": "16", "preset": "medium"}),
    "hevc": ("libx265", {"crf": "16", "preset": "fast"}),
    "vp8": ("libvpx", {"crf": "6", "b": "20M", "deadline": "good", "cpu-used": "4"}),
    "libvpx": ("libvpx", {"crf": "6", "b": "20M", "deadline": "good", "cpu-used": "4"}),
    "vp9": ("libvpx-vp9", {"crf": "16", "b": "0", "deadline": "good", "cpu-used": "4"}),
    "libvpx-vp9": ("libvpx-vp9", {"crf": "16", "b": "0", "deadline": "good", "cpu-used": "4"}),
    "av1": ("libsvtav1", {"crf": "16", "preset": "8", "svtav1-params": "lp=2"}),
    "libdav1d": ("libsvtav1", {"crf": "16", "preset": "8", "svtav1-params": "lp=2"}),
    "prores": ("prores_ks", {}),
    "ffv1": ("ffv1", {}),
}
QUANTIZED = {"mpeg4": "mpeg4", "mpeg2video": "mpeg2video", "mpeg1video": "mpeg1video", "mjpeg": "mjpeg"}
REORDERED = 2  # seconds: no picture is decoded so much later than it is shown
NUMBER = 7  # of our parameter sets in joined H.264; encoders begin with 0
GLOBAL_HEADER, QSCALE, INTERLACED = 1 << 22, 1 << 1, (1 << 18) | (1 << 29)


class Pictures(NamedTuple):
    """Packets to be written, how they came about, and what their decoder must know."""

    mode: str  # copy, joined or encoded
    packets: Iterable[Any]
    extradata: bytes | None = None
    encoder: Any = None
    left_out: tuple[str, ...] = ()
    alike: Any = None  # a file in memory with such pictures, where the new one must know them beforehand

    @property
    def header_later(self) -> bool:
        """Whether they are of another codec than the source, upright, with a header in their first packet."""
        return self.encoder is not None and not self.encoder.flags & GLOBAL_HEADER

    def add(self, output: Any, stream: Any) -> Any:
        """Add the stream of the pictures, like that of the source, to a new file."""
        if self.alike is not None:
            made = output.add_stream_from_template(self.alike.streams.video[0], opaque=True)
            made.time_base, made.codec_context.framerate = stream.time_base, self.encoder.framerate
            return describe(made, stream)
        if self.header_later:
            size = {"width": self.encoder.width, "height": self.encoder.height}
            made = output.add_mux_stream(
                self.encoder.codec.canonical_name, rate=self.encoder.framerate, **size
            )
            made.time_base = stream.time_base
            return describe(made, stream)
        made = add_stream(output, stream, self.encoder)
        if self.extradata is not None:
            made.codec_context.extradata = self.extradata
        if self.encoder is not None:
            made.codec_context.pix_fmt = self.encoder.pix_fmt
        return made


class Joint(NamedTuple):
    """Which packets are copied, from number ``first`` to before ``last``, and the header of both kinds."""

    first: int
    last: int
    make: Callable[[], Any]  # a new encoder
    extradata: bytes | None
    prefixed: bool  # units begin with their length, not with a start code

    def packets(self, video: Container, moment: Moment, copied: Iterable[Any]) -> Iterator[Any]:
        """Yield encoded, copied and encoded packets, with one delay between decoding and showing."""
        places = moment.packets
        _, delay = decoding_stamps(places[self.first : self.last])
        head = (moment.first, places[self.first].stamp)
        yield from self._encoded(video, moment, head, delay)
        yield from copied
        if self.last < len(places):
            tail = (places[self.last].stamp, moment.stop)
            yield from self._encoded(video, moment, tail, delay)

    def _encoded(self, video: Container, moment: Moment, span: tuple[int, int], delay: int) -> Iterator[Any]:
        for packet in _encode(self.make(), video, _frames(video, moment, *span), moment.zero):
            if self.prefixed:
                packet = prefixed(packet)
            packet.dts = packet.pts - delay
            yield packet


def joint(video: Container, moment: Moment) -> Joint | None:
    """Return where a moment of H.264 can be copied between encoded ends, if it can."""
    places = moment.packets
    head = video.codec.extradata or b""
    by_length = head[:1] == b"\1"
    if (
        video.codec.codec.name != "h264"
        or not times_pictures(video)
        or (by_length and (len(head) < 7 or head[4] & 3 != 3))
    ):
        return None
    if "4:4:4" in (video.codec.profile or ""):  # perhaps without loss: decoders mix that up with our pictures
        return None
    keys = [i for i in sorted(moment.closed) if moment.zero <= places[i].stamp < moment.stop]
    last = len(places) if moment.ends_clean else keys[-1] if keys else 0
    if not keys or keys[0] >= last:
        return None
    frame = next(_frames(video, moment, moment.first, moment.stop), None)
    if (
        frame is None
        or frame.interlaced_frame
        or not begins_anew(video, places[keys[0]].stamp, prefixed=by_length)
    ):
        return None
    make = partial(_encoder, video, frame, joined=True, header=by_length)
    encoder = make()
    if encoder.pix_fmt != frame.format.name:
        return None
    return Joint(keys[0], last, make, joint_header(head, encoder.extradata) if by_length else None, by_length)


def encoded(
    video: Container,
    moment: Moment,
    kind: str | None = None,
    *,
    in_order: bool = False,
    beforehand: bool = False,
) -> Pictures:
    """Return all pictures of a moment encoded in its own codec, in H.264 if nothing writes that, or as told.

    In another codec they are upright, and of square pixels. ``in_order`` has them decoded as they are shown.
    ``beforehand``: the new file must know their header before it gets them.

    Raises UnreadableVideo: none of them decodes, or they cannot be encoded.
    """
    import av

    frame = next(_frames(video, moment, moment.first, moment.stop), None)
    if frame is None:
        raise UnreadableVideo(f"{video.path}: no picture of the moment decodes; damaged or encrypted")
    frames = _frames(video, moment, moment.first, moment.stop)
    other = kind is not None or not _writes(video)
    if other:
        kind = kind or "libx264"
        upright = Upright(frame, video.stream.sample_aspect_ratio)
        frame, frames = next(upright.frames([frame])), upright.frames(frames)
    make = partial(_encoder, video, frame, kind=kind, in_order=in_order)
    try:
        try:
            encoder = make()
        except (av.FFmpegError, ValueError):  # colors that only its own encoder takes
            make = partial(make, colors=False)
            encoder = make()
        alike = (
            _alike(_encode(make(), video, [frame], moment.zero), encoder) if other and beforehand else None
        )
    except (av.FFmpegError, ValueError) as error:
        what = f"{video.codec.codec.name}, {frame.width}x{frame.height}"
        raise UnreadableVideo(
            f"{video.path}: its pictures ({what}) cannot be encoded here; leave out --exact"
        ) from error
    clear = is_clear(frame.format) or video.stream.metadata.get("alpha_mode") == "1"  # of VP8 and VP9
    lost = ("transparency",) if clear and not is_clear(av.VideoFormat(encoder.pix_fmt)) else ()
    packets = _encode(encoder, video, frames, moment.zero)
    return Pictures("encoded", packets, encoder.extradata or b"", encoder, lost, alike)


def _alike(packets: Iterable[Any], encoder: Any) -> Any:
    """Return a file in memory that holds packets of an encoder, opened: reading it finds their header."""
    import av

    held = io.BytesIO()
    with av.open(held, "w", format="nut") as output:
        size = {"width": encoder.width, "height": encoder.height}
        stream = output.add_mux_stream(encoder.codec.canonical_name, rate=encoder.framerate, **size)
        for packet in packets:
            packet.stream = stream
            output.mux(packet)
    held.seek(0)
    return av.open(held)


def turned(video: Container, moment: Moment) -> bool:
    """Say whether a file has the pictures of a moment shown otherwise than they are stored.

    Where its format cannot say so, the pictures themselves do, and a copy keeps that.
    """
    if not set(TURNS) & set(video.file.format.name.split(",")):
        return False
    frame = next(_frames(video, moment, moment.first, moment.stop), None)
    return frame is not None and is_turned(frame)


def _writes(video: Container) -> bool:
    return video.codec.codec.name in ENCODERS or video.codec.codec.name in QUANTIZED


def _encoder(
    video: Container,
    frame: Any,
    *,
    kind: str | None = None,
    joined: bool = False,
    in_order: bool = False,
    header: bool = True,
    colors: bool = True,
) -> Any:
    import av

    source = video.codec
    name = source.codec.name
    if kind is not None:
        name, header = kind, False
    own, options = next((e for e in ENCODERS.values() if e[0] == kind), None) or (
        ENCODERS.get(name) or (QUANTIZED[name], {})
    )
    encoder: Any = av.CodecContext.create(own, "w")
    encoder.width, encoder.height = frame.width, frame.height
    formats = [f.name for f in encoder.codec.video_formats or ()]
    encoder.pix_fmt = nearest_format(frame.format, formats, exact=own == "ffv1")
    fits = encoder.pix_fmt == frame.format.name
    rate = rate_of(video.stream)
    rate = min(encoder.codec.frame_rates or [rate], key=lambda known: abs(known - rate))  # MPEG-2 knows a few
    encoder.framerate = rate
    encoder.time_base = 1 / rate if name in QUANTIZED else video.stream.time_base  # older ones count pictures
    if video.stream.sample_aspect_ratio and kind is None:
        encoder.sample_aspect_ratio = video.stream.sample_aspect_ratio
    for field in ("color_range", "colorspace", "color_primaries", "color_trc"):
        if colors and (fits or field != "color_range"):
            setattr(encoder, field, getattr(source, field))
    encoder.options = dict(options)
    if joined or in_order or not times_pictures(video):
        encoder.max_b_frames = 0
    if joined:
        encoder.options |= {"x264-params": f"sps-id={NUMBER}"}
    if name in QUANTIZED:
        encoder.flags |= QSCALE
        encoder.global_quality = 2 * 118
        if own == "mjpeg" and not fits and "yuvj420p" in formats:
            encoder.pix_fmt = "yuvj420p"
    if header:
        encoder.flags |= GLOBAL_HEADER
    if frame.interlaced_frame and own in ("libx264", "mpeg2video", "mpeg4"):
        encoder.flags |= INTERLACED
    encoder.open()
    return encoder


def _frames(video: Container, moment: Moment, first: int, last: int) -> Iterator[Any]:
    """Yield the pictures shown from stamp ``first`` on and before ``last``."""
    keys = [p.stamp for p in moment.packets if p.key and p.stamp <= first]
    begin = 0 if is_raw(video) else max(keys, default=moment.packets[0].stamp)
    video.rewind()  # a decoder that was drained takes nothing more
    by_order, late, count = not times_pictures(video), None, 0
    if by_order:
        video.decode_singly()
    bound = last + round(REORDERED / video.stream.time_base)
    for packet in from_key(video, begin):
        over = packet.dts is not None and packet.dts >= bound  # else damage would be read to the end
        for frame in _decoded(packet if not over else None, video):
            stamp = frame.dts if by_order else stamp_of(frame)
            if is_raw(video):
                stamp = frame.pts = round(count / (rate_of(video.stream) * video.stream.time_base))
                count += 1
            elif by_order and stamp is not None:
                if late is None:
                    late = stamp - begin
                    if video.codec.codec.name in QUANTIZED:  # pictures before a key frame may be lost
                        late = min(late, round(video.codec.has_b_frames * moment.step))
                stamp -= late
                frame.pts = stamp
            if stamp is not None and stamp >= last:
                return
            if stamp is not None and stamp >= first:
                yield frame
        if over:
            return


def _decoded(packet: Any | None, video: Container) -> list[Any]:
    """Return the pictures that come of a packet, or at last of None: none of a damaged one."""
    import av

    try:
        return video.codec.decode(None) if packet is None else packet.decode()  # type: ignore[no-any-return]
    except (av.FFmpegError, ValueError):
        return []


def _encode(encoder: Any, video: Container, frames: Iterable[Any], zero: int) -> Iterator[Any]:
    """Yield packets of pictures, with the times and the place of the stream that they came from.

    Encoders that only count pictures know no times. No picture comes before ``zero``, a stamp.
    """
    counts = encoder.time_base != video.stream.time_base
    stamps: list[int] = []
    for frame in frames:
        stamp = stamp_of(frame)
        if stamp is None or (stamps and max(stamp, zero) <= stamps[-1]):
            continue  # of a damaged file
        stamps.append(max(stamp, zero))
        if frame.format.name != encoder.pix_fmt or frame.width != encoder.width:
            frame = frame.reformat(encoder.width, encoder.height, encoder.pix_fmt)
        frame.pts, frame.time_base = (len(stamps) - 1 if counts else stamps[-1]), encoder.time_base
        frame.pict_type = 0
        yield from _placed(encoder.encode(frame), video, stamps if counts else None)
    yield from _placed(encoder.encode(None), video, stamps if counts else None)


def _placed(packets: Iterable[Any], video: Container, stamps: Sequence[int] | None) -> Iterator[Any]:
    for packet in packets:
        unit = packet.time_base
        packet.stream = video.stream
        packet.time_base = unit
        if stamps is not None:
            packet.pts = packet.dts = stamps[packet.pts]
            packet.time_base = video.stream.time_base
            packet.duration = 0
        yield packet
