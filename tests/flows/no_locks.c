/* A file system without locks: flock and the locks of fcntl fail with the error number in NO_LOCKS_ERRNO. Preloaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>

static int refused(void) {
    const char *wanted = getenv("NO_LOCKS_ERRNO");
    errno = wanted ? atoi(wanted) : ENOLCK;
    return -1;
}

static int is_lock(int command) {
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK ||
           command == F_OFD_SETLKW || command == F_OFD_GETLK;
}

int flock(int descriptor, int operation) {
    (void)descriptor;
    (void)operation;
    return refused();
}

#define PASSED_ON(name)                                                           \
    int name(int descriptor, int command, ...) {                                  \
        static int (*original)(int, int, ...);                                    \
        va_list arguments;                                                        \
        va_start(arguments, command);                                             \
        void *argument = va_arg(arguments, void *);                               \
        va_end(arguments);                                                        \
        if (is_lock(command)) return refused();                                   \
        if (!original) *(void **)&original = dlsym(RTLD_NEXT, #name);             \
        return original(descriptor, command, argument);                           \
    }

PASSED_ON(fcntl)
PASSED_ON(fcntl64)
