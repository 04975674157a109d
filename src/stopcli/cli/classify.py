"""``stop classify``."""

from __future__ import annotations

from stopcli.cli import options as o
from stopcli.cli.files import Files
from stopcli.cli.session import session

EXAMPLES = """Examples:
  stop classify clip.mp4 --labels "a dog,a cat,a horse"
  stop classify footage/ --labels @animals.txt --format csv > animals.csv
  stop classify match.mkv --labels "a goal,a foul,a corner" --window 4"""


@o.shares(o.Focused, o.Batching, Files, o.Show)
def command(
    *,
    paths: o.Paths = None,
    labels: o.Labels = None,
    template: o.Template = None,
    window: o.Window = None,
    files_from: o.FilesFrom = None,
    compute: o.Focused,
    batching: o.Batching,
    top_k: o.TopK = 5,
    files: Files,
    show: o.Show,
) -> None:
    """Say which label each video shows.

    Without labels: the model's own, else the 400 actions of Kinetics.
    """
    with session("classify", show, compute, batching, kept="results so far are printed") as s:
        from stopcli.data.labels import check_template, default_labels, parse_labels, prompts_for

        names = parse_labels(labels, s.say) if labels else None
        check_template(template)
        files.check(s, moments=window is not None)
        videos = files.beside(s.videos(paths, files_from), each=True)
        s.note_cut(prompts_for(names or (), s.files.config, template))
        from stopcli.tasks.classify import classify

        s.note_alike(names if names is not None else default_labels(s.files.config), template)
        results = classify(s.encoder, videos, labels=names, template=template, top_k=top_k, window=window)
        s.output.add_all(s.watched("classifying", len(videos), results))
        files.write(s, "timeline_page", videos)
