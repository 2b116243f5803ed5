/* address.c - see address.h. */
#include "server/address.h"

#include "base/mem.h"
#include "base/str.h"
#include "net/net.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HOST_MAX = 256 };

static bool is_every(const char *host)
{
	return !*host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static char *join(const char *host, const char *port)
{
	return mg_format(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

/* The address of this machine on the way to another one: no packet is sent to find it. */
static bool way_to(const char *seeds, char *out, size_t size)
{
	char seed[HOST_MAX + 8] = "", host[HOST_MAX], port[8];
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM }, *found = NULL;
	struct sockaddr_storage local;
	socklen_t len = sizeof local;
	bool done = false;

	(void)snprintf(seed, sizeof seed, "%.*s", (int)strcspn(seeds, ","), seeds);
	if (mg_net_split(seed, host, sizeof host, port, sizeof port, NULL) ||
	    getaddrinfo(host, port, &hints, &found) != 0) {
		return false;
	}
	int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
	    getsockname(fd, (struct sockaddr *)&local, &len) == 0) {
		done = getnameinfo((struct sockaddr *)&local, len, out, (socklen_t)size, NULL, 0,
		                   NI_NUMERICHOST) == 0;
	}
	if (fd >= 0) {
		(void)close(fd);
	}
	freeaddrinfo(found);
	/* Not for others: the loopback, and addresses with a zone. */
	return done && strncmp(out, "127.", 4) != 0 && strcmp(out, "::1") != 0 && !strchr(out, '%');
}

static char *guess_address(const struct mg_address_wish *wish, const char *port)
{
	char host[HOST_MAX], before_port[8];

	if (wish->before &&
	    mg_net_split(wish->before, host, sizeof host, before_port, sizeof before_port, NULL) == 0 &&
	    host[0] && strcmp(port, before_port) == 0) {
		return mg_strdup(wish->before);
	}
	return wish->seeds && way_to(wish->seeds, host, sizeof host) ? join(host, port)
	                                                             : join("localhost", port);
}

char *mg_server_address(const struct mg_address_wish *wish, bool *guess)
{
	char host[HOST_MAX] = "", port[8] = "0", given_host[HOST_MAX], given_port[8];

	(void)mg_net_split(wish->listen, host, sizeof host, port, sizeof port, NULL);
	if (wish->port) {
		(void)snprintf(port, sizeof port, "%u", wish->port);
	}
	bool every = is_every(host);

	if (guess) {
		*guess = every && !wish->advertise;
	}
	if (wish->advertise && mg_net_split(wish->advertise, given_host, sizeof given_host, given_port,
	                                    sizeof given_port, NULL) == 0) {
		return join(is_every(given_host) ? "localhost" : given_host,
		            strcmp(given_port, "0") == 0 ? port : given_port);
	}
	return every ? guess_address(wish, port) : join(host, port);
}
