"""``siamese-np reproduce`` on few images: what is trained, kept, measured and told."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from siamese_np import TrainConfig, load_dataset
from siamese_np.cli import main
from siamese_np.datasets import Dataset, Split
from siamese_np.gradcheck import assert_gradients
from siamese_np.presets import make_network
from siamese_np.recipes import RECIPES, recipe
from siamese_np.reproduce import baselines, command, tables, unseen
from siamese_np.reproduce.tables import ACCURACY, Job, Row, Table

TINY = TrainConfig(preset="mlp", epochs=1, batch_size=100)


@pytest.fixture
def few(small_mnist, tmp_path, monkeypatch):
    """One trained row, one of a classifier and one untrained, on small data, in place of the real tables."""

    def main_table():
        classifier = Job(
            "classifier",
            TINY,
            lambda config: {"network": baselines.classifier("mlp", config.seed), "loss": baselines.CrossEntropy()},
        )
        measures = {row.name: row.measure for row in tables.main_table().rows}
        rows = [
            Row("trained", Job("trained", TINY), tables.as_trained),
            Row("its validation", Job("trained", TINY), tables.on_validation),
            Row("classes equal", classifier, tables.predicted_class),
            Row("before the logits", classifier, tables.penultimate),
            Row("components", Job("none", TINY, trained=False), measures["50 principal components"], seeds=1),
            Row("pixels", Job("none", TINY, trained=False), measures["raw pixels"], seeds=1),
            Row("untrained", Job("none", TINY, trained=False), measures["network of best, untrained"]),
        ]
        return Table("few images", ACCURACY, rows)

    def unseen_table():
        parts = (tables.of_unseen(lambda net: net.embed, (1, 2, 3)), tables.of_unseen(tables.unit_of_views, (1, 2, 3)))
        jobs = Job("seen", TINY, digits=(1, 2, 3)), Job("copies", TINY, digits=(1, 2, 3), copies=True)
        rows = [Row(job.name, job, measure) for job, measure in zip(jobs, parts, strict=True)]
        return Table("unseen digits", tables.UNSEEN, rows)

    monkeypatch.setattr(command, "load_dataset", lambda: load_dataset(small_mnist))

    def fast_table():
        return Table("a record", tables.FAST, [Row("quickly", Job("fast", TINY), tables.record)], seeds=2)

    made = {"main": [main_table], "unseen": [unseen_table], "fast": [fast_table]}
    monkeypatch.setattr(command, "TABLES", made)
    monkeypatch.setattr(unseen, "EPISODES", 5)
    monkeypatch.setattr(unseen, "QUERIES", 3)
    return tmp_path / "out"


@pytest.fixture
def fewer(few, monkeypatch):
    """As `few`, with one trained row and one of none."""
    table = command.TABLES["main"][0]()
    rows = [row for row in table.rows if row.name in ("trained", "pixels")]
    monkeypatch.setitem(command.TABLES, "main", [lambda: replace(table, rows=rows)])
    return few


def test_the_tables_are_told_and_kept(few, capsys):
    assert main(["reproduce", "--main", "--unseen", "--seeds", "2", "--out", str(few), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert "8 trainings and 16 measurements, to do in about" in err
    rows = told["tables"]["few images"]
    assert [len(seeds) for seeds in rows.values()] == [2, 2, 2, 2, 1, 1, 2]
    assert rows["trained"][0]["eer_all_pairs"] < rows["untrained"][0]["eer_all_pairs"] < 0.5
    assert rows["classes equal"][0]["threshold"] == 0.5 and "tar_at_far_1e-3" not in rows["classes equal"][0]
    low, high = rows["classes equal"][0]["eer_all_pairs_interval"]
    assert low < rows["classes equal"][0]["eer_all_pairs"] < high
    assert main(["reproduce", "--main", "--unseen", "--seeds", "2", "--out", str(few)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("**few images**\n\n|  | EER, all pairs, % |") and "**unseen digits**" in text
    mean = 100 * np.mean([seed["eer_all_pairs"] for seed in rows["trained"]])
    assert f"| trained | {mean:.3f} ± " in text


def test_the_record_has_all_its_seconds_and_a_picture(few, capsys):
    assert main(["reproduce", "--fast", "--out", str(few), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["tables"]["a record"]["quickly"]
    assert 0.3 < first["mean_accuracy"] <= 1 and first["mean_accuracy"] != second["mean_accuracy"]
    assert first["gigaflops"] == pytest.approx(1500 * 6 * 567_434 / 1e9, rel=0.2)  # two for each weight, three times
    assert main(["reproduce", "--fast", "--out", str(few)]) == 0
    seconds = np.mean([seed["seconds"] + seed["mean_seconds"] for seed in (first, second)])
    assert f" | {seconds:.2f} ± " in capsys.readouterr().out
    assert (few / "fast.png").read_bytes().startswith(b"\x89PNG")
    known = json.loads((few / "measured.json").read_text())
    del known["rows"]["a record: quickly, seed 0"]["mean_accuracy"]  # as in the table, nothing is shown of it
    (few / "measured.json").write_text(json.dumps(known))
    assert main(["reproduce", "--fast", "--out", str(few)]) == 0


def test_a_picture_that_is_not_written_does_not_matter(fewer, capsys):
    fewer.mkdir()
    (fewer / "fast.png").write_text("mine")
    assert main(["reproduce", "--fast", "--out", str(fewer)]) == 2
    assert "fast.png was not written by --out, and is not replaced" in capsys.readouterr().err
    assert main(["reproduce", "--seeds", "1", "--out", str(fewer)]) == 0
    assert (fewer / "fast.png").read_text() == "mine"


def test_what_is_done_is_not_done_again(fewer, capsys, monkeypatch):
    assert main(["reproduce", "--seeds", "1", "--out", str(fewer)]) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(command, "train", None)
    assert main(["reproduce", "--seeds", "1", "--out", str(fewer)]) == 0
    again = capsys.readouterr()
    assert again.out == first and again.err.startswith("0 trainings and 0 measurements, to do in")
    # of an interrupted one the trainings stay
    (fewer / "measured.json").unlink()
    with monkeypatch.context() as change:
        change.setattr(command, "train", lambda training, folder, log: len(training.history) == training.config.epochs)
        assert main(["reproduce", "--seeds", "1", "--out", str(fewer)]) == 0
    assert capsys.readouterr().out.count("| trained |") == 1


def test_quick_is_said_so_and_kept_apart(fewer, capsys):
    assert main(["reproduce", "--quick", "--out", str(fewer)]) == 0
    assert "QUICK: at most 2 epochs" in capsys.readouterr().out
    assert main(["reproduce", "--out", str(fewer)]) == 2
    assert "was begun with --quick: use another --out" in capsys.readouterr().err


def test_rows_of_other_options_or_another_way_to_measure_are_made_anew(fewer, capsys, monkeypatch):
    assert main(["reproduce", "--seeds", "1", "--out", str(fewer)]) == 0
    assert capsys.readouterr().err.startswith("1 trainings and 2 measurements")
    monkeypatch.setattr(command, "MEASURED", command.MEASURED + 1)
    assert main(["reproduce", "--seeds", "1", "--out", str(fewer)]) == 0
    assert capsys.readouterr().err.startswith("0 trainings and 2 measurements")


BROKEN = (
    3,
    {},
    {"of": 1, "knn_accuracy": "x"},
    {"of": 1, "seconds": [1, 2]},
    {"of": 1, "eer_all_pairs_interval": [1]},
)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"rows": {}}', '{"quick": false, "rows": 3}']
    + [json.dumps({"quick": False, "rows": {"one": row}}) for row in BROKEN],
)
def test_a_damaged_memory_is_told(fewer, capsys, content):
    fewer.mkdir()
    (fewer / "measured.json").write_text(content)
    assert main(["reproduce", "--out", str(fewer)]) == 2
    assert "is not what this command wrote" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "says"), [("checkpoint.npz", "is damaged"), ("mine.txt", "is not empty")])
def test_a_folder_of_no_such_training_is_told(fewer, capsys, name, says):
    (own := fewer / "trained-seed-0").mkdir(parents=True)
    (own / name).write_text("?")
    assert main(["reproduce", "--seeds", "1", "--out", str(fewer)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert says in said and said.endswith(f"; remove {own}, and it is trained anew") and "overwrite" not in said
    assert (own / name).read_text() == "?"


def test_two_at_once_keep_the_rows_of_both(few, capsys, monkeypatch):
    fast, table = ["reproduce", "--fast", "--seeds", "1", "--out", str(few)], command.TABLES["main"][0]()

    def measured_beside(siamese, dataset):
        assert main(fast) == 0
        return table.rows[-2].measure(siamese, dataset)

    rows = [replace(table.rows[-2], measure=measured_beside)]
    monkeypatch.setitem(command.TABLES, "main", [lambda: replace(table, rows=rows)])
    assert main(["reproduce", "--out", str(few)]) == 0
    capsys.readouterr()
    assert main(fast) == 0
    assert "0 trainings and 0 measurements" in capsys.readouterr().err


def test_what_is_not_finite_is_null_in_json_and_nan_in_a_table():
    seeds = [{"eer": None}, {"eer": 0.5, "eer_interval": [None, 0.75]}]
    assert command._cell(seeds, "eer", 100, ".1f") == "nan ± nan (nan to 75.0)"


def test_seeds_are_checked(fewer, capsys):
    for seeds in (0, -1, 10**30):
        assert main(["reproduce", "--seeds", str(seeds), "--out", str(fewer)]) == 2
        assert f"--seeds must be from 1 to 1000, not {seeds}\n" in capsys.readouterr().err


def test_the_real_tables_can_be_made():
    made = [make() for makes in tables.TABLES.values() for make in makes]
    names = [command._name(table, row, 0) for table in made for row in table.rows]
    assert len(set(names)) == len(names)  # what was measured is kept by these names
    jobs = {}
    for job in (row.job for table in made for row in table.rows):
        same = (job.config, job.digits, job.trained, job.parts.__code__)
        assert jobs.setdefault(job.name, same) == same


def test_each_trick_of_the_recipe_fast_is_left_out_in_turn():
    whole, *changed, padded = (row.job for row in tables.fast_ablations().rows)
    usual, tricks = recipe(), recipe("fast")
    assert whole.config == padded.config == tricks
    differing = {name for name in RECIPES["fast"] if getattr(usual, name) != getattr(tricks, name)} - {"epochs"}
    configs = [job.config for job in changed]
    left_out = [{f.name for f in fields(tricks) if getattr(one, f.name) != getattr(tricks, f.name)} for one in configs]
    assert all(len(names) == 1 for names in left_out) and differing <= set.union(*left_out)
    slim, same = make_network("slim").layers, padded.parts(tricks)["network"].layers
    assert [str(a) for a, b in zip(slim, same, strict=True) if str(a) != str(b)] == [str(slim[i]) for i in (0, 3, 7)]


def test_a_trick_is_measured_on_validation_images(few, capsys, monkeypatch):
    row = Row("quickly", Job("fast", TINY), tables.fast_ablations().rows[0].measure)
    table = Table("tricks", tables.FAST_ABLATION, [row], seeds=1)
    monkeypatch.setitem(command.TABLES, "ablations", [lambda: table])
    assert main(["reproduce", "--fast", "--ablations", "--seeds", "1", "--out", str(few), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["tables"]
    (one,), (other,) = told["tricks"]["quickly"], told["a record"]["quickly"]
    assert one["mean_accuracy"] == other["mean_accuracy_validation"] != other["mean_accuracy"]
    assert one["knn_accuracy"] == other["knn_accuracy_validation"]


def test_cross_entropy():
    classes = np.array([0, 2, 1, 1])
    loss = baselines.CrossEntropy()
    logits = np.random.default_rng(0).normal(size=(4, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert loss.forward(logits, classes)[0] == pytest.approx(-np.log(softmax[np.arange(4), classes]).mean())
    assert_gradients(loss, logits, classes)
    large = loss.forward(1000 * np.eye(3), np.arange(3))
    assert large[0] == 0 and np.isfinite(loss.backward(large[1])).all()


def test_principal_components_are_the_directions_of_most_variance():
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(200, 6)) * [5, 1, 9, 0.1, 3, 2]).reshape(200, 2, 3, 1)
    split = Split(images, np.arange(200) % 2)
    found = baselines.components(Dataset("random", split, split, split), 2)(images)
    centred = images.reshape(200, 6) - images.reshape(200, 6).mean(axis=0)
    directions = np.linalg.svd(centred)[2][:2]
    np.testing.assert_allclose(abs(found), abs(centred @ directions.T), atol=1e-9)


def test_copies_are_classes_of_their_own_that_no_other_digit_makes():
    shape = np.arange(4.0).reshape(1, 2, 2, 1).astype(np.float32)  # all eight turns and mirror images differ
    split = Split(np.concatenate([shape + 4 * digit for digit in range(10)]), np.arange(10))
    train = unseen.with_copies(Dataset("shapes", split, split, split)).train
    assert len(np.unique(train.images, axis=0)) == len(np.unique(train.classes)) == len(train) == 39
    for digit, count in enumerate((1, 2, 4, 4, 8, 2, 7, 8, 2, 1)):
        assert (train.classes % 10 == digit).sum() == count
        assert (train.images[train.classes == digit] == shape + 4 * digit).all()
    upside_down = train.images[train.classes == 20 + 7]
    assert upside_down[0, :, :, 0].tolist() == [[31, 30], [29, 28]]
    mirrored = train.images[train.classes == 40 + 7]
    assert mirrored[0, :, :, 0].tolist() == [[29, 28], [31, 30]]


def test_few_and_one_shot_of_embeddings_that_tell_all():
    classes = np.arange(300) % 10
    emb = np.eye(10)[classes]
    result = unseen.measure_unseen(emb, classes, emb, classes, (1, 2, 3), 0.5)
    assert result == {key: 1.0 for key in result} and len(result) == 7


def test_few_and_one_shot_of_embeddings_that_tell_nothing():
    classes = np.arange(2000) % 10
    emb, support = np.random.default_rng(0).normal(size=(2, 2000, 3))
    result = unseen.measure_unseen(emb, classes, support, classes, (0, 1, 2, 3, 4, 5), 0.0)
    assert result["few_shot_all"] == pytest.approx(0.1, abs=0.03)
    assert result["one_shot"] == pytest.approx(0.25, abs=0.03)
    assert result["pairs_seen"] == result["pairs_unseen"] == 0.5 and result["pairs_across"] == 1
