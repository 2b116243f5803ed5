/*
 * driver.c - drives one fuzz target without libFuzzer, so that every `make check` runs it.
 *
 * Usage: fuzz_<name> [-seconds N] [-seed N] [FILE or FOLDER ...]
 *
 * Every given file is run as it is; then inputs are mutated (bits, bytes, numbers, cuts, splices)
 * until the time is over. It has no feedback from coverage, so it finds what is shallow;
 * `make fuzz` is the deep one. When an input kills the target or takes longer than
 * INPUT_SECONDS_MAX it is left in the file crash-<program>, and the exit code is not 0.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
	INPUT_SIZE_MAX = 64 * 1024,
	INPUT_COUNT_MAX = 4096,
	INPUT_SECONDS_MAX = 10,
	MUTATIONS_MAX = 8,
	PATH_SIZE = 4096,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

struct input {
	uint8_t *data;
	size_t size;
};

static struct input inputs[INPUT_COUNT_MAX];
static size_t input_count;
static uint8_t current[INPUT_SIZE_MAX];
static size_t current_size;
static char crash_path[PATH_SIZE];
static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static size_t random_below(size_t bound)
{
	return bound == 0 ? 0 : (size_t)(random_next() % bound);
}

/* Signal handler: keep the input that did it. Only calls that are allowed there. */
static void on_death(int signal_number)
{
	int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd >= 0) {
		ssize_t written = write(fd, current, current_size);

		(void)written;
		(void)close(fd);
	}
	(void)signal(signal_number, SIG_DFL);
	(void)raise(signal_number);
}

static void input_add(const char *path)
{
	FILE *file;

	if (input_count == INPUT_COUNT_MAX) {
		return;
	}
	file = fopen(path, "rb");
	if (file == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	size_t size = fread(current, 1, sizeof current, file);
	struct input *input = &inputs[input_count];

	(void)fclose(file);
	input->data = malloc(size + 1);
	if (input->data == NULL) {
		exit(2);
	}
	memcpy(input->data, current, size);
	input->size = size;
	input_count++;
}

static void path_add(const char *path)
{
	struct stat status;

	if (stat(path, &status) != 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	if (!S_ISDIR(status.st_mode)) {
		input_add(path);
		return;
	}
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		char file[PATH_SIZE];

		if (entry->d_name[0] != '.' &&
		    snprintf(file, sizeof file, "%s/%s", path, entry->d_name) < PATH_SIZE) {
			input_add(file);
		}
	}
	if (dir != NULL) {
		(void)closedir(dir);
	}
}

static void input_run(void)
{
	/* A copy of exactly this size, so that a tool that watches memory sees a read past the end. */
	uint8_t *copy = malloc(current_size == 0 ? 1 : current_size);

	if (copy == NULL) {
		exit(2);
	}
	memcpy(copy, current, current_size);
	/* Of its own time, so that a busy machine is no finding. */
	struct itimerval limit = { .it_value = { .tv_sec = INPUT_SECONDS_MAX } };

	(void)setitimer(ITIMER_PROF, &limit, NULL);
	(void)LLVMFuzzerTestOneInput(copy, current_size);
	free(copy);
}

static void input_load(size_t index)
{
	current_size = inputs[index].size;
	memcpy(current, inputs[index].data, current_size);
}

static void mutate_numbers(size_t at)
{
	static const uint64_t numbers[] = {
		0,      1,          0x7f,       0x80,       0xff,      0x7fff,     0x8000,
		0xffff, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX, (uint64_t)1 << 62,
	};
	uint64_t number = numbers[random_below(sizeof numbers / sizeof numbers[0])];
	size_t width = (size_t)1 << random_below(4);

	if (random_next() & 1) {
		number = __builtin_bswap64(number) >> (64 - 8 * width);
	}
	for (size_t i = 0; i < width && at + i < current_size; i++) {
		current[at + i] = (uint8_t)(number >> (8 * i));
	}
}

static void mutate_move(size_t at)
{
	const struct input *other = &inputs[random_below(input_count)];
	size_t from = random_below(other->size);
	size_t count = random_below(other->size - from + 1);

	if (random_next() & 1) { /* Cut a piece out. */
		count = random_below(current_size - at + 1);
		memmove(current + at, current + at + count, current_size - at - count);
		current_size -= count;
		return;
	}
	if (count > INPUT_SIZE_MAX - current_size) {
		count = INPUT_SIZE_MAX - current_size;
	}
	memmove(current + at + count, current + at, current_size - at);
	memcpy(current + at, other->data + from, count);
	current_size += count;
}

static void mutate(void)
{
	size_t at = random_below(current_size);

	switch (random_below(5)) {
	case 0:
		if (current_size > 0) {
			current[at] ^= (uint8_t)(1u << random_below(8));
		}
		break;
	case 1:
		if (current_size > 0) {
			current[at] = (uint8_t)random_next();
		}
		break;
	case 2:
		mutate_numbers(at);
		break;
	case 3:
		mutate_move(at);
		break;
	default:
		current_size = random_below(current_size + 1);
		break;
	}
}

int main(int argc, char **argv)
{
	unsigned long seconds = 1;
	unsigned long count = 0;

	if (LLVMFuzzerInitialize != NULL) {
		(void)LLVMFuzzerInitialize(&argc, &argv);
	}
	const char *slash = strrchr(argv[0], '/');

	(void)snprintf(crash_path, sizeof crash_path, "crash-%s", slash ? slash + 1 : argv[0]);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-seconds") == 0 && i + 1 < argc) {
			seconds = strtoul(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "-seed") == 0 && i + 1 < argc) {
			random_state += strtoul(argv[++i], NULL, 10);
		} else {
			path_add(argv[i]);
		}
	}
	if (input_count == 0) {
		inputs[input_count++] = (struct input){ .data = (uint8_t *)strdup(""), .size = 0 };
	}
	static const int deaths[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPROF };

	for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++) {
		(void)signal(deaths[i], on_death);
	}
	for (size_t i = 0; i < input_count; i++, count++) {
		input_load(i);
		input_run();
	}
	time_t end = time(NULL) + (time_t)seconds;

	while (time(NULL) < end) {
		for (int i = 0; i < 64; i++, count++) {
			input_load(random_below(input_count));
			for (size_t m = random_below(MUTATIONS_MAX) + 1; m > 0; m--) {
				mutate();
			}
			input_run();
		}
	}
	(void)setitimer(ITIMER_PROF, &(struct itimerval){ 0 }, NULL);
	printf("%s: %zu seeds, %lu inputs\n", slash ? slash + 1 : argv[0], input_count, count);
	for (size_t i = 0; i < input_count; i++) {
		free(inputs[i].data);
	}
	return 0;
}
