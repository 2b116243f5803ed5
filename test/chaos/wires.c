/*
 * wires.c - a network of its own for the servers of test/chaos: one namespace for each of them, and
 * this program as the switch between, which loses, delays, repeats and cuts what it is told to.
 *
 *     wires HOSTS SEED       in a network namespace of its own, with the right to make more
 *
 * Host n (1 to HOSTS) has the address 10.77.0.n and the namespace of the process that the line
 * "host n PID" names; host 0 is the caller's own namespace, with 10.77.0.100.  Then, on standard
 * input, each answered by "ok":
 *
 *     link FROM TO LOSS% DELAY_MS JITTER_MS REPEAT%    what goes that way; LOSS 100 cuts
 *     heal                                             all of it is passed on at once again
 *
 * Packets are those of TUN devices, so what is lost is lost below TCP, one way, as on a real wire.
 * Jitter reorders.  It ends with its standard input, and the namespaces with it.
 *
 * Limits: 16 hosts; 8,192 packets on the way, further ones are lost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOSTS_MAX 17 /* with host 0 */
#define PACKETS_MAX 8192
#define PACKET_MAX 2048
#define OWN_NUMBER 100 /* the last byte of host 0's address */

struct link {
	unsigned loss, delay_ms, jitter_ms, repeat;
};

struct packet {
	uint64_t due_us;
	int to;
	size_t length;
	unsigned char bytes[PACKET_MAX];
};

static int tun[HOSTS_MAX];
static pid_t holders[HOSTS_MAX]; /* of the namespaces of hosts 1 and up */
static int host_count; /* with host 0 */
static struct link links[HOSTS_MAX][HOSTS_MAX];
static struct packet *heap[PACKETS_MAX]; /* by due_us, the earliest first */
static size_t heap_size;
static uint64_t seed;

static void die(const char *what)
{
	fprintf(stderr, "wires: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static unsigned below(unsigned limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 33) % limit;
}

/* ---- hosts ---------------------------------------------------------------------------------- */

static void interface_up(int control, const char *name)
{
	struct ifreq request = {0};
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(control, SIOCSIFFLAGS, &request)) {
		die("cannot bring an interface up");
	}
}

static void interface_address(int control, const char *name, unsigned long what, const char *text)
{
	struct ifreq request = {0};
	struct sockaddr_in address = {.sin_family = AF_INET};
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (inet_pton(AF_INET, text, &address.sin_addr) != 1) {
		die(text);
	}
	memcpy(&request.ifr_addr, &address, sizeof(address));
	if (ioctl(control, what, &request)) {
		die("cannot set an address");
	}
}

/* A TUN device in the namespace of now, up, with the address of that number. */
static int lay(unsigned number)
{
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	char address[32];
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || control < 0) {
		die("/dev/net/tun");
	}
	snprintf(request.ifr_name, sizeof(request.ifr_name), "wire");
	if (ioctl(fd, TUNSETIFF, &request)) {
		die("cannot make a TUN device");
	}
	snprintf(address, sizeof(address), "10.77.0.%u", number);
	interface_address(control, "wire", SIOCSIFADDR, address);
	interface_address(control, "wire", SIOCSIFNETMASK, "255.255.255.0");
	interface_up(control, "wire");
	interface_up(control, "lo");
	close(control);
	return fd;
}

static void make_hosts(void)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0) {
		die("/proc/self/ns/net");
	}
	tun[0] = lay(OWN_NUMBER);
	for (int i = 1; i < host_count; i++) {
		pid_t parent = getpid(), holder;
		if (unshare(CLONE_NEWNET)) {
			die("no network namespaces here");
		}
		tun[i] = lay((unsigned)i);
		holder = fork();
		if (holder < 0) {
			die("fork");
		}
		holders[i] = holder;
		if (!holder) {
			for (int k = 0; k <= i; k++) {
				close(tun[k]);
			}
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (getppid() == parent) {
				pause();
			}
			_exit(0);
		}
		printf("host %d %ld\n", i, (long)holder);
		if (setns(home, CLONE_NEWNET)) {
			die("setns");
		}
	}
	close(home);
	printf("ready\n");
	fflush(stdout);
}

static void end_hosts(void)
{
	for (int i = 1; i < host_count; i++) {
		kill(holders[i], SIGKILL);
		waitpid(holders[i], NULL, 0);
	}
}

/* ---- packets -------------------------------------------------------------------------------- */

static void heap_put(struct packet *packet)
{
	size_t at = heap_size++;
	while (at && heap[(at - 1) / 2]->due_us > packet->due_us) {
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = packet;
}

static struct packet *heap_take(void)
{
	struct packet *first = heap[0], *last = heap[--heap_size];
	size_t at = 0;
	for (;;) {
		size_t child = 2 * at + 1;
		if (child >= heap_size) {
			break;
		}
		if (child + 1 < heap_size && heap[child + 1]->due_us < heap[child]->due_us) {
			child++;
		}
		if (heap[child]->due_us >= last->due_us) {
			break;
		}
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
	return first;
}

/* A full device loses the packet, as a wire would. */
static void deliver(int to, const unsigned char *bytes, size_t length)
{
	if (write(tun[to], bytes, length) < 0 && errno != EAGAIN && errno != EINTR && errno != EIO) {
		die("cannot write to a TUN device");
	}
}

static int host_of(const unsigned char *bytes, size_t length)
{
	static const unsigned char net[3] = {10, 77, 0};
	if (length < 20 || bytes[0] >> 4 != 4 || memcmp(bytes + 16, net, sizeof(net)) != 0) {
		return -1; /* IPv6 and broadcasts go nowhere */
	}
	if (bytes[19] == OWN_NUMBER) {
		return 0;
	}
	return bytes[19] >= 1 && bytes[19] < host_count ? bytes[19] : -1;
}

static void pass_on(int from, const unsigned char *bytes, size_t length)
{
	int to = host_of(bytes, length);
	if (to < 0) {
		return;
	}
	const struct link *link = &links[from][to];
	if (link->loss && below(100) < link->loss) {
		return;
	}
	for (unsigned copies = link->repeat && below(100) < link->repeat ? 2 : 1; copies; copies--) {
		if (!link->delay_ms && !link->jitter_ms) {
			deliver(to, bytes, length);
			continue;
		}
		struct packet *packet = heap_size < PACKETS_MAX ? malloc(sizeof(*packet)) : NULL;
		if (!packet) {
			return;
		}
		packet->to = to;
		packet->length = length;
		memcpy(packet->bytes, bytes, length);
		packet->due_us = now_us() + link->delay_ms * 1000ULL
			+ (link->jitter_ms ? below(link->jitter_ms * 1000) : 0);
		heap_put(packet);
	}
}

static void take_from(int from)
{
	unsigned char bytes[PACKET_MAX];
	for (int i = 0; i < 64; i++) {
		ssize_t got = read(tun[from], bytes, sizeof(bytes));
		if (got <= 0) {
			return;
		}
		pass_on(from, bytes, (size_t)got);
	}
}

/* ---- commands ------------------------------------------------------------------------------- */

static bool obey(const char *line)
{
	struct link link;
	unsigned from, to;
	if (!strcmp(line, "heal")) {
		memset(links, 0, sizeof(links));
		return true;
	}
	if (sscanf(line, "link %u %u %u %u %u %u", &from, &to, &link.loss, &link.delay_ms,
	           &link.jitter_ms, &link.repeat) != 6
		|| from >= (unsigned)host_count || to >= (unsigned)host_count) {
		return false;
	}
	links[from][to] = link;
	return true;
}

/* Whole lines of standard input; false at its end. */
static bool listen_to_caller(void)
{
	static char text[4096];
	static size_t length;
	ssize_t got = read(STDIN_FILENO, text + length, sizeof(text) - 1 - length);
	if (got <= 0) {
		return got < 0 && errno == EINTR;
	}
	length += (size_t)got;
	text[length] = '\0';
	for (char *end; (end = strchr(text, '\n'));) {
		*end = '\0';
		printf(obey(text) ? "ok\n" : "what?\n");
		length -= (size_t)(end + 1 - text);
		memmove(text, end + 1, length + 1);
	}
	fflush(stdout);
	return length < sizeof(text) - 1;
}

int main(int argc, char **argv)
{
	host_count = argc == 3 ? (int)strtol(argv[1], NULL, 10) + 1 : 0;
	if (host_count < 2 || host_count > HOSTS_MAX) {
		fprintf(stderr, "usage: wires HOSTS SEED\n");
		return 1;
	}
	seed = strtoull(argv[2], NULL, 10) * 2 + 88172645463325252ULL;
	make_hosts();
	for (;;) {
		struct pollfd polls[HOSTS_MAX + 1];
		int wait_ms = -1;
		for (int i = 0; i < host_count; i++) {
			polls[i] = (struct pollfd){.fd = tun[i], .events = POLLIN};
		}
		polls[host_count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
		if (heap_size) {
			uint64_t now = now_us();
			uint64_t due = heap[0]->due_us;
			wait_ms = due <= now ? 0 : (int)((due - now) / 1000 + 1);
		}
		if (poll(polls, (nfds_t)host_count + 1, wait_ms) < 0 && errno != EINTR) {
			die("poll");
		}
		for (uint64_t now = now_us(); heap_size && heap[0]->due_us <= now;) {
			struct packet *packet = heap_take();
			deliver(packet->to, packet->bytes, packet->length);
			free(packet);
		}
		for (int i = 0; i < host_count; i++) {
			if (polls[i].revents & POLLIN) {
				take_from(i);
			}
		}
		if (polls[host_count].revents && !listen_to_caller()) {
			end_hosts();
			return 0;
		}
	}
}
