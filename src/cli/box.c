/*
 * box.c - a table in box drawing characters, as DuckDB's shell shows it.
 *
 *	┌───────┬─────────┐
 *	│   a   │    b    │      names and types centred
 *	│ int32 │ varchar │
 *	├───────┼─────────┤
 *	│     1 │ x       │      numbers to the right
 *	└───────┴─────────┘
 *
 * Rule: of a result with more than rows_max rows only the first and last are kept while it streams
 * by, with three rows of dots between them; so a table of any size needs the memory of rows_max
 * rows.  A table that is wider than the terminal first loses width in its widest columns, then
 * columns in its middle.
 */
#include "base/assert.h"
#include "cli/render_int.h"
#include "cli/width.h"

#include <string.h>

#define SLACK_ROWS 3            /* dots take three rows; so three more are shown as they are */
#define NARROW_COLUMN 20        /* columns are not squeezed below this */
#define ELLIPSIS "…"

#define DIM "\033[90m"
#define BOLD "\033[1m"
#define PLAIN "\033[0m"

struct cell {
	char *text;                 /* heap; NULL: the value is NULL */
	size_t len, width;
};

struct column {
	struct cell name, type;
	bool numeric;
	bool hidden;
	size_t width;
};

struct mg_box {
	struct mg_render_options options;
	struct column *columns;
	size_t count;
	struct cell *head;          /* rows of count cells */
	size_t head_rows, head_max, head_cap;
	struct cell *tail;          /* ring of tail_max rows */
	size_t tail_rows, tail_max, tail_first;
	uint64_t rows;
	struct mg_sb value;
};

/* ---- collecting ------------------------------------------------------------------------------ */

/* Line ends and other control characters would break the frame. */
static struct cell cell_of(const char *text, size_t len)
{
	struct mg_sb out = { 0 };
	struct cell cell;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		switch (c) {
		case '\n': mg_sb_add(&out, "\\n"); break;
		case '\r': mg_sb_add(&out, "\\r"); break;
		case '\t': mg_sb_add(&out, "\\t"); break;
		default:
			if (c < 0x20 || c == 0x7F) {
				mg_sb_addf(&out, "\\x%02x", c);
			} else {
				mg_sb_add_char(&out, (char)c);
			}
		}
	}
	cell.len = out.len;
	cell.text = mg_sb_take(&out);
	cell.width = mg_width(cell.text, cell.len);
	return cell;
}

struct mg_box *mg_box_new(const struct mg_render_options *options, const struct mg_arrow_view *view,
                          const struct mg_render_table *table)
{
	struct mg_box *box = mg_alloc0(sizeof *box);
	struct mg_sb type = { 0 };

	box->options = *options;
	box->count = table->count;
	box->columns = mg_alloc0(table->count * sizeof *box->columns);
	for (size_t i = 0; i < table->count; i++) {
		struct column *column = &box->columns[i];

		mg_sb_clear(&type);
		if (table->types[i] && *table->types[i]) {
			mg_type_short(table->types[i], &type);
		} else {
			mg_arrow_view_type(view, i, &type);
		}
		column->name = cell_of(table->names[i], strlen(table->names[i]));
		column->type = cell_of(mg_sb_text(&type), type.len);
		column->numeric = mg_arrow_view_is_numeric(view, i);
	}
	mg_sb_fini(&type);
	box->head_max = options->rows_max ? options->rows_max / 2 + options->rows_max % 2 : SIZE_MAX;
	box->tail_max = options->rows_max ? options->rows_max / 2 + SLACK_ROWS : 0;
	box->tail = box->tail_max ? mg_alloc0(box->tail_max * box->count * sizeof *box->tail) : NULL;
	return box;
}

static void row_free(struct cell *row, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mg_free(row[i].text);
	}
}

void mg_box_free(struct mg_box *box)
{
	if (!box) {
		return;
	}
	for (size_t i = 0; i < box->count; i++) {
		mg_free(box->columns[i].name.text);
		mg_free(box->columns[i].type.text);
	}
	row_free(box->head, box->head_rows * box->count);
	row_free(box->tail, box->tail_max * box->count);
	mg_sb_fini(&box->value);
	mg_free(box->columns);
	mg_free(box->head);
	mg_free(box->tail);
	mg_free(box);
}

static void read_row(struct mg_box *box, const struct mg_arrow_view *view, int64_t row,
                     struct cell *out)
{
	for (size_t i = 0; i < box->count; i++) {
		if (mg_arrow_view_is_null(view, i, row)) {
			out[i] = (struct cell){ NULL, 4, 4 };
			continue;
		}
		mg_sb_clear(&box->value);
		mg_arrow_view_text(view, i, row, &box->value);
		out[i] = cell_of(mg_sb_text(&box->value), box->value.len);
	}
}

static struct cell *head_row(struct mg_box *box)
{
	if (box->head_rows == box->head_cap) {
		box->head_cap = box->head_cap ? box->head_cap * 2 : 64;
		box->head = mg_realloc(box->head, box->head_cap * box->count * sizeof *box->head);
	}
	return box->head + box->head_rows++ * box->count;
}

static struct cell *tail_row(struct mg_box *box)
{
	size_t at = (box->tail_first + box->tail_rows) % box->tail_max;
	struct cell *row = box->tail + at * box->count;

	if (box->tail_rows == box->tail_max) {
		row_free(row, box->count);
		box->tail_first = (box->tail_first + 1) % box->tail_max;
	} else {
		box->tail_rows++;
	}
	return row;
}

void mg_box_batch(struct mg_box *box, const struct mg_arrow_view *view)
{
	int64_t rows = mg_arrow_view_rows(view), row = 0;

	box->rows += (uint64_t)rows;
	while (row < rows && box->head_rows < box->head_max) {
		read_row(box, view, row++, head_row(box));
	}
	/* Only the last rows of a batch can be among the last of all. */
	if (rows - row > (int64_t)box->tail_max) {
		row = rows - (int64_t)box->tail_max;
	}
	while (row < rows) {
		read_row(box, view, row++, tail_row(box));
	}
}

/* ---- widths ---------------------------------------------------------------------------------- */

static const struct cell *tail_at(const struct mg_box *box, size_t index)
{
	return box->tail + (box->tail_first + index) % box->tail_max * box->count;
}

static size_t shown_tail(const struct mg_box *box)
{
	size_t bottom = box->options.rows_max / 2;

	return box->rows > box->head_rows + box->tail_rows ? bottom : box->tail_rows;
}

static void widen(struct column *column, size_t width)
{
	column->width = column->width < width ? width : column->width;
}

static void measure(struct mg_box *box)
{
	size_t tail = box->tail_max ? shown_tail(box) : 0;

	for (size_t i = 0; i < box->count; i++) {
		struct column *column = &box->columns[i];

		widen(column, column->name.width);
		widen(column, column->type.width);
		for (size_t row = 0; row < box->head_rows; row++) {
			widen(column, box->head[row * box->count + i].width);
		}
		for (size_t row = box->tail_rows - tail; row < box->tail_rows; row++) {
			widen(column, tail_at(box, row)[i].width);
		}
	}
}

/* Width of the whole table: "│ a │ b │". */
static size_t total_width(const struct mg_box *box)
{
	size_t width = 1;
	bool gap = false;

	for (size_t i = 0; i < box->count; i++) {
		if (!box->columns[i].hidden) {
			width += box->columns[i].width + 3;
		} else if (!gap) {
			gap = true;
			width += 4;
		}
	}
	return width;
}

/* Take width from the widest column, down to the next widest, until the table fits. */
static void squeeze(struct mg_box *box)
{
	size_t total;

	while ((total = total_width(box)) > box->options.width_max) {
		size_t widest = 0, second = NARROW_COLUMN, many = 0, take;

		for (size_t i = 0; i < box->count; i++) {
			widest = box->columns[i].width > widest ? box->columns[i].width : widest;
		}
		if (widest <= NARROW_COLUMN) {
			return;
		}
		for (size_t i = 0; i < box->count; i++) {
			size_t width = box->columns[i].width;

			many += width == widest;
			second = width < widest && width > second ? width : second;
		}
		take = (total - box->options.width_max + many - 1) / many;
		take = take < widest - second ? take : widest - second;
		for (size_t i = 0; i < box->count; i++) {
			box->columns[i].width -= box->columns[i].width == widest ? take : 0;
		}
	}
}

/* Hide columns from the middle outwards until the table fits; the first and last stay. */
static void hide_columns(struct mg_box *box)
{
	size_t low = box->count / 2, high = box->count / 2;

	while (total_width(box) > box->options.width_max && (low > 1 || high + 1 < box->count)) {
		if (high + 1 < box->count && high - box->count / 2 <= box->count / 2 - low) {
			box->columns[high++].hidden = true;
		} else {
			box->columns[--low].hidden = true;
		}
	}
	/* What was squeezed for the hidden ones may still be too wide: one column is cut hard. */
	while (total_width(box) > box->options.width_max) {
		size_t widest = 0;

		for (size_t i = 1; i < box->count; i++) {
			if (!box->columns[i].hidden && box->columns[i].width > box->columns[widest].width) {
				widest = i;
			}
		}
		if (box->columns[widest].width <= 3) {
			return;
		}
		box->columns[widest].width--;
	}
}

/* ---- drawing --------------------------------------------------------------------------------- */

static void add_repeat(struct mg_sb *out, const char *text, size_t times)
{
	while (times-- > 0) {
		mg_sb_add(out, text);
	}
}

enum align { LEFT, CENTER, RIGHT };

static void add_cell(struct mg_sb *out, const char *text, size_t len, size_t width, size_t room,
                     enum align align)
{
	size_t space, left;

	if (width > room) {
		len = mg_width_cut(text, len, room - 1);
		width = mg_width(text, len) + 1;
		mg_sb_add(out, " ");
		mg_sb_add_len(out, text, len);
		mg_sb_add(out, ELLIPSIS);
		add_repeat(out, " ", room - width + 1);
		return;
	}
	space = room - width;
	left = align == LEFT ? 0 : align == RIGHT ? space : space / 2;
	add_repeat(out, " ", left + 1);
	mg_sb_add_len(out, text, len);
	add_repeat(out, " ", space - left + 1);
}

static void add_rule(const struct mg_box *box, struct mg_sb *out, const char *left,
                     const char *cross, const char *right)
{
	bool first = true, gap = false;

	mg_sb_add(out, box->options.color ? DIM : "");
	mg_sb_add(out, left);
	for (size_t i = 0; i < box->count; i++) {
		bool hidden = box->columns[i].hidden;

		if (hidden && gap) {
			continue;
		}
		gap = gap || hidden;
		mg_sb_add(out, first ? "" : cross);
		add_repeat(out, "─", hidden ? 3 : box->columns[i].width + 2);
		first = false;
	}
	mg_sb_add(out, right);
	mg_sb_add(out, box->options.color ? PLAIN "\n" : "\n");
}

static void add_bar(const struct mg_box *box, struct mg_sb *out)
{
	mg_sb_add(out, box->options.color ? DIM "│" PLAIN : "│");
}

enum row_kind { ROW_NAMES, ROW_TYPES, ROW_VALUES, ROW_DOTS };

static void add_column(const struct mg_box *box, struct mg_sb *out, size_t i,
                       const struct cell *row, enum row_kind kind)
{
	const struct column *column = &box->columns[i];
	enum align align = column->numeric ? RIGHT : LEFT;
	bool color = box->options.color;

	switch (kind) {
	case ROW_NAMES:
		mg_sb_add(out, color ? BOLD : "");
		add_cell(out, column->name.text, column->name.len, column->name.width, column->width,
		         CENTER);
		mg_sb_add(out, color ? PLAIN : "");
		return;
	case ROW_TYPES:
		mg_sb_add(out, color ? DIM : "");
		add_cell(out, column->type.text, column->type.len, column->type.width, column->width,
		         CENTER);
		mg_sb_add(out, color ? PLAIN : "");
		return;
	case ROW_DOTS: add_cell(out, "·", 2, 1, column->width, align); return;
	case ROW_VALUES: break;
	}
	if (!row[i].text) {
		mg_sb_add(out, color ? DIM : "");
		add_cell(out, "NULL", 4, 4, column->width, align);
		mg_sb_add(out, color ? PLAIN : "");
		return;
	}
	add_cell(out, row[i].text, row[i].len, row[i].width, column->width, align);
}

static void add_row(const struct mg_box *box, struct mg_sb *out, const struct cell *row,
                    enum row_kind kind)
{
	bool gap = false;

	add_bar(box, out);
	for (size_t i = 0; i < box->count; i++) {
		if (!box->columns[i].hidden) {
			add_column(box, out, i, row, kind);
		} else if (gap) {
			continue;
		} else {
			gap = true;
			mg_sb_add(out, kind == ROW_TYPES ? "   " : kind == ROW_DOTS ? " · " : " " ELLIPSIS " ");
		}
		add_bar(box, out);
	}
	mg_sb_add(out, "\n");
}

static void add_footer_line(const struct mg_box *box, struct mg_sb *out, const char *text)
{
	size_t room = total_width(box) - 4, width = mg_width(text, strlen(text));

	add_bar(box, out);
	add_cell(out, text, strlen(text), width, room, CENTER);
	add_bar(box, out);
	mg_sb_add(out, "\n");
}

static void format_count(struct mg_sb *out, uint64_t number)
{
	char digits[24];
	int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);

	for (int i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0) {
			mg_sb_add_char(out, ',');
		}
		mg_sb_add_char(out, digits[i]);
	}
}

/* What is not shown is told inside the frame, where nobody overlooks it: in one line when it fits,
 * else one part a line. */
struct footer {
	char parts[4][48];
	size_t count;
	struct mg_sb line;
};

static void footer_part(struct footer *footer, const char *fmt, const char *number)
{
	char *part = footer->parts[footer->count++];

	snprintf(part, sizeof footer->parts[0], fmt, number);
	mg_sb_addf(&footer->line, "%s%s", !footer->line.len ? "" : *part == '(' ? " " : "  ", part);
}

static void make_footer(const struct mg_box *box, size_t rows_shown, size_t columns_shown,
                        struct footer *footer)
{
	struct mg_sb number = { 0 };

	if (rows_shown < box->rows || box->rows == 0) {
		format_count(&number, box->rows);
		footer_part(footer, "%s rows", number.ptr);
	}
	if (rows_shown < box->rows) {
		mg_sb_clear(&number);
		format_count(&number, rows_shown);
		footer_part(footer, "(%s shown)", number.ptr);
	}
	if (columns_shown < box->count) {
		mg_sb_clear(&number);
		format_count(&number, box->count);
		footer_part(footer, "%s columns", number.ptr);
		mg_sb_clear(&number);
		format_count(&number, columns_shown);
		footer_part(footer, "(%s shown)", number.ptr);
	}
	mg_sb_fini(&number);
}

/* A table of one narrow column grows until the longest part fits. */
static void widen_for_footer(struct mg_box *box, const struct footer *footer)
{
	size_t needed = 0, total = total_width(box);

	for (size_t i = 0; i < footer->count; i++) {
		size_t len = strlen(footer->parts[i]) + 4;

		needed = len > needed ? len : needed;
	}
	if (needed > total) {
		box->columns[box->count - 1].width += needed - total;
	}
}

static void add_footer(const struct mg_box *box, struct mg_sb *out, const struct footer *footer)
{
	if (footer->line.len + 4 <= total_width(box)) {
		add_footer_line(box, out, footer->line.ptr);
		return;
	}
	for (size_t i = 0; i < footer->count; i++) {
		add_footer_line(box, out, footer->parts[i]);
	}
}

void mg_box_draw(struct mg_box *box, struct mg_sb *out)
{
	size_t tail = box->tail_max ? shown_tail(box) : 0, columns_shown = 0;
	size_t rows_shown = box->head_rows + tail;
	struct footer footer = { 0 };

	measure(box);
	if (box->options.width_max) {
		squeeze(box);
		if (total_width(box) > box->options.width_max) {
			hide_columns(box);
		}
	}
	for (size_t i = 0; i < box->count; i++) {
		columns_shown += !box->columns[i].hidden;
	}
	make_footer(box, rows_shown, columns_shown, &footer);
	widen_for_footer(box, &footer);
	add_rule(box, out, "┌", "┬", "┐");
	add_row(box, out, NULL, ROW_NAMES);
	add_row(box, out, NULL, ROW_TYPES);
	if (box->rows > 0) {
		add_rule(box, out, "├", "┼", "┤");
	}
	for (size_t row = 0; row < box->head_rows; row++) {
		add_row(box, out, box->head + row * box->count, ROW_VALUES);
	}
	for (size_t i = 0; i < SLACK_ROWS && rows_shown < box->rows; i++) {
		add_row(box, out, NULL, ROW_DOTS);
	}
	for (size_t row = box->tail_rows - tail; row < box->tail_rows; row++) {
		add_row(box, out, tail_at(box, row), ROW_VALUES);
	}
	if (footer.count) {
		add_rule(box, out, "├", "┴", "┤");
		add_footer(box, out, &footer);
		add_rule(box, out, "└", "─", "┘");
	} else {
		add_rule(box, out, "└", "┴", "┘");
	}
	mg_sb_fini(&footer.line);
}
