"""A tiny task of each kind, scored by MTEB itself: what it says is what this project's own figures say."""

from __future__ import annotations

import pytest

mteb = pytest.importorskip("mteb")
pytestmark = pytest.mark.filterwarnings("ignore")

CLIPS = {
    "a-car-moving-right": "a car moving right",
    "a-dog-moving-left": "a dog moving left",
    "a-ghost-shaking": "a ghost shaking",
    "a-rocket-moving-up": "a rocket moving up",
    "an-owl-moving-down": "an owl moving down",
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Build tasks over the bundled clips: one holds their bytes, one their paths."""
    from datasets import Dataset, DatasetDict, Video
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

    from stopcli.tasks.samples import copy_samples

    folder = tmp_path_factory.mktemp("samples")
    list(copy_samples(folder))
    files = [folder / f"{name}.mp4" for name in CLIPS]
    nothing = dict.fromkeys(
        (
            "reference",
            "date",
            "domains",
            "task_subtypes",
            "license",
            "annotations_creators",
            "dialect",
            "sample_creation",
        )
    )

    def described(name, kind, score, category):
        return TaskMetadata(
            name=name,
            description="made here",
            dataset={"path": "made/here", "revision": "1"},
            type=kind,
            category=category,
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score=score,
            modalities=["video", "text"],
            bibtex_citation="",
            **nothing,
        )

    class Choose(AbsTaskZeroShotClassification):
        metadata = described("TinyChoice", "VideoZeroshotClassification", "accuracy", "v2t")
        input_column_name = "video"

        def load_data(self, **_):
            videos = [{"bytes": f.read_bytes(), "path": None} for f in files]
            data = Dataset.from_dict({"video": videos, "label": list(range(len(files)))})
            self.dataset = DatasetDict({"test": data.cast_column("video", Video(decode=False))})
            self.data_loaded = True

        def get_candidate_labels(self):
            return [f"a video of {caption}" for caption in CLIPS.values()]

    class Find(AbsTaskRetrieval):
        metadata = described("TinySearch", "Any2AnyRetrieval", "ndcg_at_10", "t2v")

        def load_data(self, **_):
            ids = [str(i) for i in range(len(files))]
            videos = Dataset.from_dict({"id": ids, "video": [str(f) for f in files]})
            self.dataset = {
                "default": {
                    "test": RetrievalSplitData(
                        corpus=videos.cast_column("video", Video()),
                        queries=Dataset.from_dict({"id": ids, "text": list(CLIPS.values())}),
                        relevant_docs={i: {i: 1} for i in ids},
                        top_ranked=None,
                    )
                }
            }
            self.data_loaded = True

    return Choose, Find, files


def scores(model, task):
    result = mteb.evaluate(model, [task()], cache=None, co2_tracker=False, show_progress_bar=False)
    return result.task_results[0].scores["test"][0]


def test_mini_knows_its_world_and_its_plain_backbone_does_not(tasks):
    from stopcli.mteb import MTEBEncoder, load

    choose, find, files = tasks
    model = load("mini")
    plain = MTEBEncoder(model.encoder.without_prompts())
    assert scores(model, choose)["main_score"] == 1.0
    assert scores(model, find)["main_score"] == 1.0
    sentences = [f"a video of {caption}" for caption in CLIPS.values()]
    encoder = plain.encoder
    vectors = [item.vector for item in encoder.encode_videos([str(f) for f in files], steady=True)]
    answers = (vectors @ encoder.encode_texts(sentences).T).argmax(1)
    right = sum(int(answer == i) for i, answer in enumerate(answers)) / len(files)
    assert scores(plain, choose)["main_score"] == pytest.approx(right)


def test_the_model_says_who_it_is(tasks):
    from stopcli.mteb import load

    meta = load("mini").mteb_model_meta
    assert meta.name == "stopcli/mini"
    assert meta.modalities == ["text", "video"]
    assert meta.n_parameters > 8_000_000


def test_a_video_that_cannot_be_read_ends_it_with_its_reason(tasks, tmp_path):
    from datasets import Dataset, DatasetDict, Video

    from stopcli.errors import InputError
    from stopcli.mteb import load

    class Broken(tasks[0]):
        def load_data(self, **_):
            data = Dataset.from_dict({"video": [{"bytes": b"no video", "path": None}], "label": [0]})
            self.dataset = DatasetDict({"test": data.cast_column("video", Video(decode=False))})
            self.data_loaded = True

    with pytest.raises(InputError, match=r"video 0: .*not a video"):
        scores(load("mini"), Broken)
