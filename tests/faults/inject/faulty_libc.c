/* Loaded before the C library (LD_PRELOAD), lets calls on files below one directory fail, or the clock jump.
 *
 *   FAULT_IO="call errno after directory"   the calls `write`, `fsync` or `read` fail with `errno` on regular files
 *                                           below `directory`, all processes' first `after` calls apart
 *   FAULT_IO_COUNT=file                     where the processes count their calls together
 *   FAULT_CLOCK=seconds                     the time of day is off by so much, forwards and backwards in turns of 2 s
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int below(int descriptor, const char *directory) {
    char link[64], path[4096];
    struct stat status;
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    size_t prefix = strlen(directory);
    return strncmp(path, directory, prefix) == 0 && path[prefix] == '/';
}

/* How many calls came before this one, in all processes: the length of a file that each makes a byte longer. */
static long earlier(void) {
    const char *name = getenv("FAULT_IO_COUNT");
    if (name == NULL) return 0;
    int counter = open(name, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (counter < 0) return 0;
    syscall(SYS_write, counter, ".", 1L);
    off_t length = lseek(counter, 0, SEEK_CUR);
    close(counter);
    return (long)length - 1;
}

static int fails(const char *call, int descriptor) {
    char wanted[16], directory[4096];
    int number;
    long after;
    const char *plan = getenv("FAULT_IO");
    if (plan == NULL || sscanf(plan, "%15s %d %ld %4095[^\n]", wanted, &number, &after, directory) != 4) return 0;
    if (strcmp(wanted, call) != 0 || !below(descriptor, directory) || earlier() < after) return 0;
    errno = number;
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) { return fails("write", fd) ? -1 : NEXT(write)(fd, data, size); }
ssize_t writev(int fd, const struct iovec *v, int n) { return fails("write", fd) ? -1 : NEXT(writev)(fd, v, n); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return fails("write", fd) ? -1 : NEXT(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return fails("write", fd) ? -1 : NEXT(pwrite64)(fd, data, size, at);
}
ssize_t read(int fd, void *data, size_t size) { return fails("read", fd) ? -1 : NEXT(read)(fd, data, size); }
ssize_t pread(int fd, void *data, size_t size, off_t at) {
    return fails("read", fd) ? -1 : NEXT(pread)(fd, data, size, at);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    return fails("read", fd) ? -1 : NEXT(pread64)(fd, data, size, at);
}
int fsync(int fd) { return fails("fsync", fd) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails("fsync", fd) ? -1 : NEXT(fdatasync)(fd); }

static time_t jump(void) {
    struct timespec now;
    const char *seconds = getenv("FAULT_CLOCK");
    if (seconds == NULL || syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) != 0) return 0;
    return now.tv_sec / 2 % 2 ? atol(seconds) : -atol(seconds);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int answer = (int)syscall(SYS_clock_gettime, clock, now);
    if (answer == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
    return answer;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int answer = (int)syscall(SYS_gettimeofday, now, zone);
    if (answer == 0) now->tv_sec += jump();
    return answer;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result != NULL) *result = now.tv_sec;
    return now.tv_sec;
}
