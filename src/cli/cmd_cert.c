/*
 * cmd_cert.c - certificates: a CA, servers', clients', and what a certificate says.
 */
#include "auth/auth.h"
#include "cli/commands.h"
#include "cli/connect.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define NAMES_MAX 64

static int done(int code, const struct mg_error *err, const char *cert, const char *key)
{
	if (code) {
		return mg_cli_fail(err);
	}
	fprintf(stderr, "certificate in %s, key in %s\n", cert, key);
	return 0;
}

int mg_command_cert_ca(const struct mg_options *options)
{
	const char *cert = mg_options_text(options, "cert-file");
	const char *key = mg_options_text(options, "key-file");
	struct mg_error err = { 0 };
	char *password = NULL;
	int code = mg_options_secret(options, "key-password", NULL, &password, &err);

	if (code == 0) {
		code = mg_cert_ca_create(cert, key, mg_options_text(options, "common-name"), password,
		                         mg_options_flag(options, "overwrite"), &err);
	}
	mg_free(password);
	return done(code, &err, cert, key);
}

/* Sort "a.example,10.0.0.7" behind the names that every server has. */
static void split_names(char *text, const char **dns, const char **ips)
{
	size_t dns_count = 1, ip_count = 2;
	char *save = NULL;
	uint8_t ip[16];

	dns[0] = "localhost";
	ips[0] = "127.0.0.1";
	ips[1] = "::1";
	for (char *name = strtok_r(text, ", ", &save); name; name = strtok_r(NULL, ", ", &save)) {
		bool is_ip = inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1;

		if (is_ip && ip_count < NAMES_MAX) {
			ips[ip_count++] = name;
		} else if (!is_ip && dns_count < NAMES_MAX) {
			dns[dns_count++] = name;
		}
	}
	dns[dns_count] = NULL;
	ips[ip_count] = NULL;
}

int mg_command_cert_create(const struct mg_options *options)
{
	const char *cert = mg_options_text(options, "cert-file");
	const char *key = mg_options_text(options, "key-file");
	const char *more = mg_options_text(options, "names");
	const char *dns[NAMES_MAX + 1], *ips[NAMES_MAX + 1];
	char *names = mg_strdup(more ? more : ""), *password = NULL;
	struct mg_error err = { 0 };
	int code = mg_options_secret(options, "ca-password", NULL, &password, &err);

	cert = cert ? cert : "server.crt";
	key = key ? key : "server.key";
	split_names(names, dns, ips);
	if (code == 0) {
		struct mg_cert_names all = { mg_options_text(options, "common-name"), dns, ips };

		code = mg_cert_server_create(cert, key, mg_options_text(options, "ca-cert-file"),
		                             mg_options_text(options, "ca-key-file"), password, &all,
		                             mg_options_flag(options, "overwrite"), &err);
	}
	mg_free(names);
	mg_free(password);
	return done(code, &err, cert, key);
}

int mg_command_cert_client(const struct mg_options *options)
{
	const char *cert = mg_options_text(options, "cert-file");
	const char *key = mg_options_text(options, "key-file");
	char *ca_password = NULL, *password = NULL;
	struct mg_error err = { 0 };
	int code = mg_options_secret(options, "ca-password", NULL, &ca_password, &err);

	cert = cert ? cert : "client.crt";
	key = key ? key : "client.key";
	if (code == 0) {
		code = mg_options_secret(options, "key-password", NULL, &password, &err);
	}
	if (code == 0) {
		code = mg_cert_client_create(cert, key, mg_options_text(options, "ca-cert-file"),
		                             mg_options_text(options, "ca-key-file"), ca_password,
		                             mg_options_text(options, "common-name"), password,
		                             mg_options_flag(options, "overwrite"), &err);
	}
	mg_free(ca_password);
	mg_free(password);
	return done(code, &err, cert, key);
}

int mg_command_cert_show(const struct mg_options *options)
{
	struct mg_error err = { 0 };
	struct mg_sb out = { 0 };
	int code = mg_cert_show(mg_options_argument(options, 0), &out, &err);

	if (code == 0) {
		fputs(mg_sb_text(&out), stdout);
	}
	mg_sb_fini(&out);
	return code ? mg_cli_fail(&err) : 0;
}
