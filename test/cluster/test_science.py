"""Histograms, minmax and crossmatch equal numpy's, wherever the rows lie: over shards, with workers, in groups, filtered."""
import math
import random

import numpy
import pytest

WAYS = ["?strategy=local", "?strategy=gather", "?strategy=cut"]
NASTY = [math.nan, math.inf, -math.inf, None, 0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1e308, -1e308, 1.0, 0.1, 0.3,
         0.30000000000000004, 0.7, 0.7000000000000001, 1 - 2**-53, 100.0, 1e16, 0.5, 0.49999999999999994]


def literal(value):
    return "NULL" if value is None else f"'{value!r}'::DOUBLE"


def load(cluster, name, rows):
    """rows: (group, x, y)"""
    cluster.sql(f"CREATE TABLE {name} (id BIGINT, g INTEGER, x DOUBLE, y DOUBLE) PARTITIONED BY (id)")
    for start in range(0, len(rows), 500):
        values = ", ".join(f"({start + i}, {g}, {literal(x)}, {literal(y)})" for i, (g, x, y) in enumerate(rows[start:start + 500]))
        cluster.sql(f"INSERT INTO {name} VALUES {values}")


def sample():
    chance = random.Random(7)
    rows = [(i % 5, chance.gauss(0.4, 0.3), chance.random()) for i in range(1500)]
    rows += [(i % 5, i / 50, i / 10 % 1) for i in range(-5, 60)]  # on edges
    rows += [(i % 5, x, 0.5) for i, x in enumerate(NASTY)] + [(i % 5, 0.5, y) for i, y in enumerate(NASTY)]
    return rows + [(9, None, None), (9, math.nan, 0.2)]


@pytest.fixture(scope="module", params=[(1, 0), (4, 2)], ids=["one shard", "four shards and workers"])
def science(request):
    from conftest import Cluster
    shards, workers = request.param
    cluster = Cluster(scale=0, shards=shards)
    try:
        cluster.start_server()
        for i in range(workers):
            cluster.start_worker(f"worker-{i}")
        cluster.wait_workers(workers)
        load(cluster, "science", sample())
        cluster.sql("CREATE TABLE nothing (id BIGINT, x DOUBLE, y DOUBLE) PARTITIONED BY (id)")
        yield cluster
    finally:
        cluster.remove()


def numbers(rows, column=1):
    return numpy.array([math.nan if row[column] is None else row[column] for row in rows], dtype=float)


def ask(cluster, sql, sort=True):
    """The same on every way, down to the last bit of its text."""
    answers = [cluster.rows(sql, way) for way in WAYS]
    if sort:
        answers = [sorted(answer, key=repr) for answer in answers]
    for way, answer in zip(WAYS, answers):
        assert repr(answer) == repr(answers[0]), (way, sql)
    return answers[0]


def refused(cluster, sql, words):
    for way in WAYS:
        answer = cluster.post("/db/query" + way, {"sql": sql})
        assert answer.status == 400 and words in answer.json()["error"]["message"], (way, sql, answer.body)


def same_numbers(ours, theirs):
    """Bit by bit, also the sign of a zero."""
    assert numpy.array(ours, dtype=float).tobytes() == numpy.array(theirs, dtype=float).tobytes(), (ours, theirs)


def same_histogram(ours, x, bins, span):
    counts, edges = numpy.histogram(x, bins=bins, range=span)
    assert ours["counts"] == counts.tolist(), (bins, span)
    same_numbers(ours["edges"], edges)


RANGES = [(0, 1), (0.0, 0.3), (-1, 1), (0.1, 0.7), (-0.0, 0.7), (0.5, 0.5), (0, 0), (-5e-324, 5e-322), (0, 3e-322), (0, 2.3e-308),
          (0.3, 0.30000000000000004), (99.5, 1e16), (-8e307, 9e307), (0.4999999, 0.5000001), (1e16, 1e16 + 64), (-1e-3, 1e300)]


def test_histograms_are_numpys(science):
    x = numbers(sample())
    made = 0
    for span in RANGES:
        for bins in (1, 2, 3, 7, 10, 50, 1000):
            sql = f"SELECT mg_histogram(x, bins := {bins}, range := [{span[0]!r}::DOUBLE, {span[1]!r}::DOUBLE]) FROM science"
            try:
                with numpy.errstate(all="ignore"):
                    numpy.histogram(x, bins=bins, range=span)
            except ValueError:
                refused(science, sql, "too many bins")
                continue
            same_histogram(ask(science, sql)[0][0], x, bins, span)
            made += 1
    assert made > 70


def test_bins_and_range_may_be_left_out_and_come_in_any_order(science):
    x = numbers(sample())
    near = numpy.array([v for v in x if abs(v) < 3])
    same_histogram(ask(science, "SELECT mg_histogram(x, range := [0, 1]) FROM science")[0][0], x, 50, (0, 1))
    same_histogram(ask(science, "SELECT mg_histogram(x, range := [0, 1], bins := 3) FROM science")[0][0], x, 3, (0, 1))
    same_histogram(ask(science, "SELECT mg_histogram(x, 3, [0, 1]) FROM science")[0][0], x, 3, (0, 1))
    same_histogram(ask(science, "SELECT mg_histogram(x) FROM science WHERE abs(x) < 3")[0][0], near, 50, None)
    same_histogram(ask(science, "SELECT mg_histogram(x, bins := 7) FROM science WHERE abs(x) < 3")[0][0], near, 7, None)
    two_passes = "SELECT mg_histogram(x, bins := 7, range := (SELECT minmax(x) FROM science WHERE abs(x) < 3)) FROM science"
    same_histogram(ask(science, two_passes)[0][0], near, 7, None)


def test_a_histogram_of_what_is_not_finite(science):
    for where in ("isnan(x)", "isinf(x)", "x IS NULL"):
        answer = ask(science, f"SELECT mg_histogram(x, bins := 2), mg_histogram(x, bins := 2, range := (SELECT minmax(x) FROM nothing)), "
                              f"mg_histogram(x, bins := 2, range := [3, 4]) FROM science WHERE {where}")
        zeros = {"counts": [0, 0], "edges": [0.0, 0.5, 1.0]}
        assert answer == [[zeros, zeros, {"counts": [0, 0], "edges": [3.0, 3.5, 4.0]}]], where


def test_of_no_rows(science):
    assert ask(science, "SELECT minmax(x), mg_histogram(x), mg_histogram(x, range := [0, 1]), mg_histogram2d(x, y) FROM nothing") == [
        [{"min": "nan", "max": "nan"}, None, None, None]]
    assert ask(science, "SELECT id, mg_histogram(x) FROM nothing GROUP BY id") == []
    assert ask(science, "SELECT minmax(x) FROM science WHERE x IS NULL OR NOT isfinite(x)") == [[{"min": "nan", "max": "nan"}]]
    filtered = "SELECT g, mg_histogram(x, range := [0, 1]) FILTER (g = 77) FROM science GROUP BY g"
    assert ask(science, filtered) == [[g, None] for g in (0, 1, 2, 3, 4, 9)]


def test_two_dimensions(science):
    rows = sample()
    x, y = numbers(rows), numbers(rows, 2)
    for bins, asked in ((4, "4"), ((2, 3), "[2, 3]"), (50, "50")):
        for span in ([(0, 1), (0, 1)], [(-1, 2), (0.1, 0.7)], [(0.5, 0.5), (0, 1)]):
            told = "[" + ", ".join(f"[{low}, {high}]" for low, high in span) + "]"
            counts, xedges, yedges = numpy.histogram2d(x, y, bins=bins, range=span)
            ours = ask(science, f"SELECT mg_histogram2d(x, y, bins := {asked}, range := {told}) FROM science")[0][0]
            assert ours["counts"] == counts.astype(int).tolist()
            same_numbers(ours["xedges"], xedges)
            same_numbers(ours["yedges"], yedges)
    near = [(a, b) for a, b in zip(x, y) if abs(a) < 3 and 0 <= b <= 1]
    counts, xedges, yedges = numpy.histogram2d(*zip(*near), bins=(3, 4))
    ours = ask(science, "SELECT mg_histogram2d(x, y, bins := [3, 4]) FROM science WHERE abs(x) < 3 AND y BETWEEN 0 AND 1")[0][0]
    assert ours["counts"] == counts.astype(int).tolist()
    same_numbers(ours["xedges"], xedges)
    same_numbers(ours["yedges"], yedges)


def test_groups_filters_and_many_at_once(science):
    rows = sample()
    sql = ("SELECT g, count(*), minmax(x), minmax(y) FILTER (y > 0.5), mg_histogram(x, bins := 5, range := [0, 1]), "
           "mg_histogram(y, bins := 3, range := [0, 1]) FILTER (x > 0.4), mg_histogram2d(x, y, bins := 2, range := [[0, 1], [0, 1]]), "
           "avg(g) FROM science GROUP BY g")
    answer = ask(science, sql)
    assert [row[0] for row in answer] == [0, 1, 2, 3, 4, 9]
    for g, count, xs, ys, ofx, ofy, both, average in answer:
        mine = [row for row in rows if row[0] == g]
        x, y = numbers(mine), numbers(mine, 2)
        assert count == len(mine) and average == g
        finite, high = x[numpy.isfinite(x)], y[numpy.isfinite(y) & (y > 0.5)]
        assert xs == ({"min": finite.min(), "max": finite.max()} if len(finite) else {"min": "nan", "max": "nan"})
        assert ys == ({"min": high.min(), "max": high.max()} if len(high) else {"min": "nan", "max": "nan"})
        same_histogram(ofx, x, 5, (0, 1))
        chosen = y[(x > 0.4) | numpy.isnan(x) & numpy.array([row[1] is not None for row in mine])]  # NaN is greater here
        if len(chosen):
            same_histogram(ofy, chosen, 3, (0, 1))
        else:
            assert ofy is None
        assert both["counts"] == numpy.histogram2d(x, y, bins=2, range=[(0, 1), (0, 1)])[0].astype(int).tolist()


def test_in_windows_distinct_and_having(science):
    rows = sample()
    ours = ask(science, "SELECT DISTINCT g, minmax(x) OVER (PARTITION BY g), minmax(y) OVER () FROM science")
    assert len(ours) == 6
    for g, own, ends in ours:
        x = numbers([row for row in rows if row[0] == g])
        x = x[numpy.isfinite(x)]
        assert own == ({"min": x.min(), "max": x.max()} if len(x) else {"min": "nan", "max": "nan"})
        assert ends == {"min": -1e308, "max": 1e308}
    for frame, width in (("ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", 3), ("ROWS UNBOUNDED PRECEDING", 10**6),
                         ("ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE NO OTHERS", 3)):
        running = ask(science, f"SELECT id, minmax(x) OVER (ORDER BY id {frame}) FROM science WHERE id < 40", sort=False)
        for i, ends in running:
            x = numbers(rows[max(0, i + 1 - width):i + 1])
            assert ends == {"min": x.min(), "max": x.max()}
    for call in ("mg_histogram(x)", "mg_histogram(x, 3, [0, 1])", "mg_histogram2d(x, y)", "mg_histogram_sum(NULL)",
                 "mg_histogram2d_sum(NULL)"):
        window = "(ORDER BY id ROWS 2 PRECEDING EXCLUDE CURRENT ROW)"
        refused(science, f"SELECT {call} OVER {window} FROM science", "is no window function")
    windows = ask(science, "SELECT id, (SELECT mg_histogram(x, 3, [0, 1]) FROM science s WHERE s.id BETWEEN w.id - 2 AND w.id) "
                           "FROM science w WHERE id < 40")
    for i, histogram in windows:
        same_histogram(histogram, numbers(rows[max(0, i - 2):i + 1]), 3, (0, 1))
    x = numpy.array(sorted(set(numbers(rows).tolist())))
    same_histogram(ask(science, "SELECT mg_histogram(DISTINCT x, bins := 9, range := [0, 1]) FROM science")[0][0], x, 9, (0, 1))
    assert ask(science, "SELECT g FROM science GROUP BY g HAVING minmax(x).max IS NULL OR isnan(minmax(x).max)") == [[9]]


def test_sums_of_histograms(science):
    whole = ask(science, "SELECT mg_histogram(x, bins := 6, range := [0, 1]), mg_histogram2d(x, y, bins := 3, range := [[0, 1], [0, 1]]) "
                         "FROM science")
    parts = ("(SELECT id % 3, mg_histogram(x, bins := 6, range := [0, 1]) a, "
             "mg_histogram2d(x, y, bins := 3, range := [[0, 1], [0, 1]]) b FROM science GROUP BY ALL)")
    assert ask(science, f"SELECT mg_histogram_sum(a), mg_histogram2d_sum(b) FROM {parts}") == whole
    assert ask(science, "SELECT mg_histogram_sum(NULL), mg_histogram2d_sum(NULL)") == [[None, None]]


def test_partial_results_of_shards(science):
    sql = "SELECT mg_histogram(x, bins := 6, range := [0, 1]) h, minmax(x) m FROM science"
    shards = science.rows(sql, "?strategy=cut&distributed=force")
    assert len(shards) in (1, 4)
    counts = numpy.sum([row[0]["counts"] for row in shards], axis=0)
    assert counts.tolist() == numpy.histogram(numbers(sample()), bins=6, range=(0, 1))[0].tolist()
    unmerged = science.rows(sql, "?summarize=false")
    assert numpy.sum([row[-2]["counts"] for row in unmerged], axis=0).tolist() == counts.tolist()


def test_counts_travel_and_not_rows(science):
    def plan(sql):
        return "\n".join(row[0] for row in science.rows("EXPLAIN " + sql, "?strategy=cut"))

    if len(science.processes) == 1:
        return  # all is in one place
    split = plan("SELECT g, minmax(x), mg_histogram(x, range := [0, 1]), mg_histogram2d(x, y, range := [[0, 1], [0, 1]]) FROM science "
                 "GROUP BY g")
    assert "aggregate: partial" in split and "mg_histogram_sum" in split, split
    assert "needs all rows of a group" in plan("SELECT mg_histogram(x) FROM science")


def test_what_is_wrong_is_said(science):
    for call, words in {
        "mg_histogram(x, bin := 3)": "no argument named \"bin\"",
        "mg_histogram(x, range := 3)": "must be [low, high]",
        "mg_histogram2d(x, y, range := NULL)": "must be [low, high]",
        "mg_histogram(x, bins := [0, 1])": "must be a number",
        "mg_histogram(x, bins := 0)": "bins must be at least 1",
        "mg_histogram(x, bins := -4, range := [0, 1])": "bins must be at least 1",
        "mg_histogram(x, bins := 20000000)": "bins must be between",
        "mg_histogram2d(x, y, bins := 100000)": "at most 16777216 bins",
        "mg_histogram(x, range := [1, 0])": "below its lower one",
        "mg_histogram(x, range := [0, 'inf'::DOUBLE])": "must be finite",
        "mg_histogram(x, range := ['nan'::DOUBLE, 1])": "must be finite",
        "mg_histogram(x, range := [0, NULL])": "must be finite",
        "mg_histogram(x, range := [-1e308, 1e308])": "too wide",
        "mg_histogram(x, range := [0, 1, 2])": "must be two numbers",
        "mg_histogram(x, range := NULL::DOUBLE[])": "may not be NULL",
        "mg_histogram(x, bins := NULL::BIGINT)": "may not be NULL",
        "mg_histogram(x, range := [0, 1 + id])": "must be the same",
        "mg_histogram(x, bins := 1 + id, range := [0, 1])": "must be the same",
        "mg_histogram2d(x, y, bins := [1, 2, 3])": "one number, or two",
        "mg_histogram2d(x, y, range := [[0, 1]])": "[[xlow, xhigh], [ylow, yhigh]]",
        "mg_histogram_sum({counts: [1, 2], edges: [0.0, 1.0]}::STRUCT(counts BIGINT[], edges DOUBLE[]))": "no histogram",
        "mg_histogram_sum({counts: [NULL], edges: [0.0, 1.0]}::STRUCT(counts BIGINT[], edges DOUBLE[]))": "no histogram",
        "mg_histogram_sum({counts: [-1], edges: [0.0, 1.0]}::STRUCT(counts BIGINT[], edges DOUBLE[]))": "negative, or too large",
        "mg_histogram_sum({counts: [1], edges: [0.0, 1.0 + id]}::STRUCT(counts BIGINT[], edges DOUBLE[]))": "the same edges",
        "mg_histogram_sum({counts: [1, 1], edges: [0.0, 0.4, 1.0]}::STRUCT(counts BIGINT[], edges DOUBLE[]))": "the same edges",
    }.items():
        refused(science, f"SELECT {call} FROM science", words)
    for call, words in {
        "crossmatch(coord := [x, y], [[0, 0]], 1)": "no argument named",
        "crossmatch([x], [[0, 0]], 1)": "a coordinate is",
        "crossmatch([x, y], [[0, 0, 1]], 1)": "as many numbers",
        "crossmatch([x, y], [[0, 0]], -1)": "0 or more",
        "crossmatch([x, y], [[0, 0]], 'nan'::DOUBLE)": "0 or more",
    }.items():
        refused(science, f"SELECT {call} FROM science WHERE x IS NOT NULL", words)


def unit(ra, dec):
    return numpy.array([numpy.cos(dec) * numpy.cos(ra), numpy.cos(dec) * numpy.sin(ra), numpy.sin(dec)]).T


def near(points, targets, radius):
    """The targets of each point, by force."""
    chord = 2 * math.sin(min(radius, math.pi) / 2)
    return [numpy.flatnonzero(((point - targets) ** 2).sum(axis=1) <= chord * chord).tolist() for point in points]


def test_crossmatch(science):
    chance = numpy.random.default_rng(3)
    rows = {i: row for i, row in enumerate(sample()) if None not in row and abs(row[1]) < 1e6 and abs(row[2]) < 1e6}
    points = unit(numbers(rows.values()), numbers(rows.values(), 2))
    flat = numpy.array([chance.uniform(-3, 6, 300), chance.uniform(-1.5, 1.5, 300)]).T.tolist()
    flat += [[row[1], row[2]] for row in sample()[:40]] + [[0.5, 0.5]] * 3
    solid = unit(*numpy.array(flat).T)
    for radius in (1e-6, 0.02, 0.3, 3.2):
        expected = dict(zip(rows, near(points, solid, radius)))
        assert any(expected.values())
        for coord, targets in (("[x, y]", flat), ("[cos(y) * cos(x), cos(y) * sin(x), sin(y)]", solid.tolist())):
            sql = f"SELECT id, crossmatch({coord}, $targets, $radius) FROM science WHERE abs(x) < 1e6 AND abs(y) < 1e6"
            for way in WAYS:
                answer = science.post("/db/query" + way, {"sql": sql, "params": {"targets": targets, "radius": radius}})
                assert answer.status == 200, answer.body
                assert dict(answer.json()["result"]["values"]) == expected, (radius, coord)
    itself = ask(science, "SELECT count(*) FROM science WHERE crossmatch([x, y], [[x, y]], 0) = [0]")
    assert itself == [[sum(1 for _, x, y in sample() if None not in (x, y) and math.isfinite(x) and math.isfinite(y))]]


def test_crossmatch_with_fields_and_targets_of_a_table(science):
    science.sql("CREATE TABLE IF NOT EXISTS targets (n INTEGER, ra DOUBLE, dec DOUBLE)")
    science.sql("DELETE FROM targets")
    science.sql("INSERT INTO targets VALUES (0, 0.5, 0.5), (1, 0.1, 0.2), (2, 0.1, 0.2), (3, 'nan', 0), (4, NULL, 1)")
    table = "(SELECT list([ra, dec] ORDER BY n) FROM targets)"
    ours = ask(science, f"SELECT unnest(crossmatch([x, y], {table}, degree(3))) AS target, id, x, y FROM science "
                        "WHERE abs(x) < 1 AND abs(y) < 1")
    rows = {i: row for i, row in enumerate(sample()) if None not in row and abs(row[1]) < 1 and abs(row[2]) < 1}
    points = unit(numbers(rows.values()), numbers(rows.values(), 2))
    expected = near(points, unit(*numpy.array([[0.5, 0.5], [0.1, 0.2], [0.1, 0.2], [math.nan, 0]]).T), math.radians(3))
    pairs = [[target, i, row[1], row[2]] for (i, row), found in zip(rows.items(), expected) for target in found]
    assert ours == sorted(pairs, key=repr) and {pair[0] for pair in pairs} == {0, 1, 2}
    assert ask(science, "SELECT crossmatch(NULL, [[0, 0]], 1), crossmatch([0, 0], NULL, 1), crossmatch([0, 0], [[0, 0]], NULL), "
                        "crossmatch([0, 'nan'::DOUBLE], [[0, 0]], 1), crossmatch([0, NULL], [[0, 0]], 1), crossmatch([0, 0], [], 1)") == [
        [None, None, None, [], [], []]]


def test_scalars_are_numpys(science):
    flux = [3631e9, 1.0, 57.543993733715695, 0.0, -0.0, -1.0, math.inf, math.nan, 5e-324]
    ours = science.rows(f"SELECT flux2mag(unnest([{', '.join(map(literal, flux))}]))")
    with numpy.errstate(all="ignore"):
        theirs = 31.4 - 2.5 * numpy.log10(numpy.array(flux))
    assert [float(row[0]) for row in ours] == pytest.approx(theirs.tolist(), rel=1e-15, nan_ok=True)
    assert science.rows("SELECT degree(), arcmin(), arcsec(), degree(180) = pi(), arcmin(60) = degree(), arcsec(2), "
                        "isnan('nan'::DOUBLE)") == [
        [math.pi / 180, math.pi / 180 / 60, math.pi / 180 / 3600, True, True, 2 * (math.pi / 180 / 3600), True]]
    assert science.rows("SELECT flux2mag(NULL), degree(NULL), arcsec(2::DECIMAL(3, 1)) = arcsec(2)") == [[None, None, True]]
    assert ask(science, "SELECT count(*) FROM science WHERE flux2mag(x) < 31.4 AND x < degree(90)") == [
        [sum(1 for _, x, _ in sample() if x is not None and 1 < x < math.pi / 2)]]
