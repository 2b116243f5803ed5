/*
 * cmd_misc.c - `completion`, which prints scripts made from the option tables, and `doctor`.
 */
#include "cli/commands.h"
#include "cli/connect.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/limits.h"
#include "store/duck.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DISK_WANTED (1ull << 30)
#define MEMORY_WANTED (512ull << 20)

/* ---- completion ------------------------------------------------------------------------------ */

static void add_options(struct mg_sb *out, const struct mg_command *command, const char *between)
{
	bool first = true;

	for (size_t t = 0; command->tables[t]; t++) {
		for (const struct mg_option *o = command->tables[t]; o->name; o++) {
			if (mg_option_is_shadowed(command, t, o->name)) {
				continue;
			}
			mg_sb_addf(out, "%s--%s", first ? "" : between, o->name);
			first = false;
		}
	}
}

static void bash_script(struct mg_sb *out)
{
	mg_sb_add(out, "_merganser() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words=\n"
	               "  case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
	for (const struct mg_command *c = mg_commands; c->name; c++) {
		mg_sb_addf(out, strchr(c->name, ' ') ? "  \"%s\") words='" : "  \"%s \"*) words='",
		           c->name);
		add_options(out, c, " ");
		mg_sb_add(out, "' ;;\n");
	}
	mg_sb_add(out, "  esac\n  if [[ $COMP_CWORD == 1 ]]; then words='");
	for (const struct mg_command *c = mg_commands; c->name; c++) {
		mg_sb_addf(out, "%.*s ", (int)strcspn(c->name, " "), c->name);
	}
	mg_sb_add(out, "'; fi\n  if [[ $COMP_CWORD == 2 ]]; then case ${COMP_WORDS[1]} in\n");
	for (const struct mg_command *c = mg_commands; c->name; c++) {
		const char *blank = strchr(c->name, ' ');

		if (blank) {
			mg_sb_addf(out, "  %.*s) words+=' %s' ;;&\n", (int)(blank - c->name), c->name,
			           blank + 1);
		}
	}
	mg_sb_add(out, "  esac; fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
	               "complete -o default -F _merganser merganser\n");
}

static void fish_script(struct mg_sb *out)
{
	for (const struct mg_command *c = mg_commands; c->name; c++) {
		const char *blank = strchr(c->name, ' ');
		int len = (int)strcspn(c->name, " ");

		if (blank) {
			mg_sb_addf(out, "complete -c merganser -n '__fish_seen_subcommand_from %.*s' -a %s "
			                "-d \"%s\"\n", len, c->name, blank + 1, c->summary);
		}
		mg_sb_addf(out, "complete -c merganser -n __fish_use_subcommand -a %.*s%s%s%s\n", len,
		           c->name, blank ? "" : " -d \"", blank ? "" : c->summary, blank ? "" : "\"");
		for (size_t t = 0; c->tables[t]; t++) {
			for (const struct mg_option *o = c->tables[t]; o->name; o++) {
				if (mg_option_is_shadowed(c, t, o->name)) {
					continue;
				}
				mg_sb_addf(out,
				           "complete -c merganser -n '__fish_seen_subcommand_from %.*s' -l %s%s\n",
				           len, c->name, o->name, o->kind == MG_O_FLAG ? "" : " -r");
			}
		}
	}
}

int mg_command_completion(const struct mg_options *options)
{
	const char *shell = mg_options_argument(options, 0);
	struct mg_sb out = { 0 };

	if (strcmp(shell, "bash") == 0) {
		bash_script(&out);
	} else if (strcmp(shell, "zsh") == 0) {
		mg_sb_add(&out, "autoload -U +X bashcompinit && bashcompinit\n");
		bash_script(&out);
	} else if (strcmp(shell, "fish") == 0) {
		fish_script(&out);
	} else {
		struct mg_error err;

		mg_error_set(&err, MG_E_USAGE, "no completion for \"%s\"", shell);
		mg_error_hint(&err, "There are bash, zsh and fish.");
		return mg_cli_fail(&err);
	}
	fputs(mg_sb_text(&out), stdout);
	mg_sb_fini(&out);
	return 0;
}

/* ---- doctor ---------------------------------------------------------------------------------- */

static int problems;

static void tell(bool fine, const char *what, const char *detail)
{
	problems += !fine;
	printf("%s  %-12s %s\n", fine ? "ok " : "BAD", what, detail);
}

static void check_port(const char *listen)
{
	const char *colon = strrchr(listen, ':');
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	long port = colon ? strtol(colon + 1, NULL, 10) : 8765;
	char text[200], host[64];

	snprintf(host, sizeof host, "%.*s", (int)(colon ? colon - listen : 0), listen);
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
		address.sin_addr.s_addr = htonl(INADDR_ANY);
	}
	address.sin_port = htons((uint16_t)port);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0) {
		snprintf(text, sizeof text, "port %ld is free", port);
		tell(true, "port", text);
	} else {
		snprintf(text, sizeof text, "port %ld: %s; --listen takes another", port, strerror(errno));
		tell(false, "port", text);
	}
	if (fd >= 0) {
		close(fd);
	}
}

static void check_disk(const char *dir)
{
	struct mg_error err = { 0 };
	uint64_t bytes = 0;
	char text[400];
	char *parent = mg_dir_exists(dir) ? mg_strdup(dir) : mg_strdup(".");

	if (mg_disk_free(parent, &bytes, &err)) {
		tell(false, "disk", err.message);
	} else {
		snprintf(text, sizeof text, "%.1f GB free", (double)bytes / 1e9);
		tell(bytes >= DISK_WANTED, "disk", text);
	}
	mg_free(parent);
}

static void check_file(const char *dir, const char *name, bool secret)
{
	char *path = mg_format("%s/%s", dir, name), text[600];

	if (access(path, R_OK) != 0) {
		snprintf(text, sizeof text, "%s: %s", path, strerror(errno));
		tell(false, "keys", text);
	} else {
		snprintf(text, sizeof text, "%s", path);
		tell(true, secret ? "key" : "certificate", text);
	}
	mg_free(path);
}

static void check_data_dir(const char *dir)
{
	int lock = -1;
	struct mg_error err = { 0 };
	char text[600];

	if (!mg_dir_exists(dir)) {
		snprintf(text, sizeof text, "\"%s\" is not there; `merganser bootstrap` makes it", dir);
		tell(true, "data", text);
		return;
	}
	check_file(dir, "tls/ca.crt", false);
	check_file(dir, "tls/server.crt", false);
	check_file(dir, "tls/server.key", true);
	if (mg_dir_lock(dir, &lock, &err)) {
		tell(true, "data", err.message);
		return;
	}
	mg_dir_unlock(lock);
	snprintf(text, sizeof text, "\"%s\" is there and no server uses it", dir);
	tell(true, "data", text);
}

int mg_command_doctor(const struct mg_options *options)
{
	char text[200];

	problems = 0;
	snprintf(text, sizeof text, "%s", mg_duck_version());
	tell(true, "DuckDB", text);
	snprintf(text, sizeof text, "%u", mg_os_cores());
	tell(true, "cores", text);
	snprintf(text, sizeof text, "%.1f GB", (double)mg_os_memory_bytes() / 1e9);
	tell(mg_os_memory_bytes() >= MEMORY_WANTED, "memory", text);
	tell(mg_clock_wall_ms() > 1700000000000, "clock", "certificates need the right day");
	check_disk(mg_options_text(options, "data-dir"));
	check_port(mg_options_text(options, "listen"));
	check_data_dir(mg_options_text(options, "data-dir"));
	return problems ? 1 : 0;
}
