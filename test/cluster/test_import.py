"""merganser import: a folder to tables, by its own model or a given one; again; what is wrong stores nothing."""
import json
import os
import subprocess

import pyarrow
import pyarrow.parquet

from conftest import PROGRAM


def run(cluster, *args, code=0):
    done = subprocess.run([PROGRAM, "import", *map(str, args), "--url", cluster.url, "--username", "scott", "--tls-roots", cluster.ca],
                          capture_output=True, text=True, timeout=120, env={**os.environ, "MERGANSER_PASSWORD": "tiger"})
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_a_folder(cluster, tmp_path):
    lake = tmp_path / "lake"
    (lake / "im_parts").mkdir(parents=True)
    (lake / "im_city.csv").write_text("id,name\n1,Bern\n2,\"Köln, am Rhein\"\n")
    (lake / "im_lines.jsonl").write_text('{"a": 1, "b": "x"}\n{"a": 2}\n')
    (lake / "README").write_text("no rows")
    (lake / "im_parts" / "README.md").write_text("no rows either")
    for i in range(3):
        pyarrow.parquet.write_table(pyarrow.table({"k": [i, i + 10], "v": ["a", None]}), lake / "im_parts" / f"{i}.parquet")
    try:
        model = json.loads(subprocess.run([PROGRAM, "import", lake, "--print-model"], capture_output=True, text=True, check=True).stdout)
        assert [table["name"] for table in model["tables"]] == ["im_city", "im_lines", "im_parts"]
        assert model["tables"][2]["files"] == [f"im_parts/{i}.parquet" for i in range(3)]
        assert model["tables"][0]["columns"] == {"id": "BIGINT", "name": "VARCHAR"}
        run(cluster, lake)
        assert cluster.rows("SELECT * FROM im_city ORDER BY id") == [[1, "Bern"], [2, "Köln, am Rhein"]]
        assert cluster.rows("SELECT count(*), count(v), max(k) FROM im_parts") == [[6, 3, 12]]
        assert "nothing to do" in run(cluster, lake)                    # what is done is done
        assert cluster.rows("SELECT count(*) FROM im_parts") == [[6]]
        model["tables"] = [{"name": "im_keyed", "files": ["im_parts/*.parquet"], "partitioned_by": ["k"],
                            "columns": {"k": "INTEGER NOT NULL", "v": "VARCHAR"}}]
        (tmp_path / "model.yaml").write_text("""tables:
  - name: im_keyed
    files: [im_parts/*.parquet]
    columns: {k: INTEGER NOT NULL, v: VARCHAR}
    partitioned_by:
      - k
""")
        run(cluster, lake, "--model", tmp_path / "model.yaml")
        assert cluster.rows("SELECT partitioned_by FROM cluster.tables WHERE name = 'im_keyed'")[0][0] in ("k", ["k"], "[k]")
        # A file that is wrong takes back its table's others, and the next import goes on.
        (lake / "im_broken").mkdir()
        (lake / "im_broken" / "1.csv").write_text("k,d\n1,2020-01-01\n")
        (lake / "im_broken" / "2.csv").write_text("k,d\n2,2020-01-01\nx,2020-01-02\n")
        said = run(cluster, lake, code=3)
        assert "2.csv" in said and "Line: 3" in said and '"k"' in said, said
        assert cluster.rows("SELECT count(*) FROM im_broken") == [[0]]
        (lake / "im_broken" / "2.csv").write_text("k,d\n2,2020-01-01\n")
        run(cluster, lake)
        assert cluster.rows("SELECT count(*) FROM im_broken") == [[2]]
        run(cluster, lake, "--append", "--overwrite", code=1)
        run(cluster, lake, "--append")
        assert cluster.rows("SELECT count(*) FROM im_city") == [[4]]
        run(cluster, lake, "--overwrite")
        assert cluster.rows("SELECT count(*) FROM im_city") == [[2]]
        (tmp_path / "model.json").write_text('{"tables": [{"name": "x", "files": ["../*.csv"]}]}')
        assert "outside" in run(cluster, lake, "--model", tmp_path / "model.json", code=1)
        (tmp_path / "model.yml").write_text("tables:\n  - name: x\n   files: [a]\n")
        assert "no YAML" in run(cluster, lake, "--model", tmp_path / "model.yml", code=1)
        run(cluster, tmp_path / "nothing", code=1)
        # A file's name is no pattern, and its model finds it again.
        (tmp_path / "odd").mkdir()
        (tmp_path / "odd" / "im[1].csv").write_text("a\n1\n")
        (tmp_path / "model.json").write_text(subprocess.run([PROGRAM, "import", tmp_path / "odd", "--print-model"], capture_output=True,
                                                            text=True, check=True).stdout)
        assert "im[1]: 1 rows" in run(cluster, tmp_path / "odd", "--model", tmp_path / "model.json")
    finally:
        for name in ("im_city", "im_lines", "im_parts", "im_keyed", "im_broken", '"im[1]"'):
            cluster.sql(f"DROP TABLE IF EXISTS {name}")
