"""embed.py FILE.py ... OUT.h: each file as an array of bytes with a zero behind it, mg_job_FILE."""
import pathlib
import sys

*paths, out = map(pathlib.Path, sys.argv[1:])
lines = []
for path in paths:
    data = path.read_bytes() + b"\0"
    lines.append(f"static const char mg_job_{path.stem}[] = {{")
    lines += ["\t" + ", ".join(map(str, data[i:i + 20])) + "," for i in range(0, len(data), 20)]
    lines.append("};")
out.write_text("/* Made by embed.py. */\n" + "\n".join(lines) + "\n")
