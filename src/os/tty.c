/* tty.c - terminal questions. */
#include "os/tty.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define PASSWORD_MAX 1024

bool mg_tty_is(int fd)
{
	return isatty(fd) == 1;
}

unsigned mg_tty_columns(int fd)
{
	struct winsize size;
	if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
		return 80;
	}
	return size.ws_col;
}

/* One line without its end; false when it is too long or the terminal went away. */
static bool read_line(int fd, char *to, size_t cap, size_t *len)
{
	*len = 0;
	for (;;) {
		char c;
		ssize_t got = read(fd, &c, 1);
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got <= 0 || *len >= cap) {
			return false;
		}
		if (c == '\n' || c == '\r') {
			return true;
		}
		to[(*len)++] = c;
	}
}

static void say(int fd, const char *text)
{
	ssize_t done = write(fd, text, strlen(text));
	(void)done;
}

int mg_tty_password(const char *prompt, char **out, struct mg_error *err)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct termios before;
	if (fd < 0 || tcgetattr(fd, &before) != 0) {
		if (fd >= 0) {
			close(fd);
		}
		return mg_error_set(err, MG_E_UNAVAILABLE, "no terminal to ask for a password");
	}
	struct termios silent = before;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(fd, TCSAFLUSH, &silent);
	say(fd, prompt);
	char line[PASSWORD_MAX];
	size_t len;
	bool read_it = read_line(fd, line, sizeof line, &len);
	tcsetattr(fd, TCSAFLUSH, &before);
	say(fd, "\n");
	close(fd);
	int code = MG_OK;
	if (read_it) {
		*out = mg_strndup(line, len);
	} else {
		code = mg_error_set(err, MG_E_USAGE, "no password was entered");
	}
	sodium_memzero(line, sizeof line);
	return code;
}
