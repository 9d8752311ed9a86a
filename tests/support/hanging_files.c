/* Preloaded into a process, it lets no call return that opens, looks at or makes something below the directory $HANGING_FILES while
   there is a file of that name with `.hang` at its end: as a network file system does whose server is away. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_for(const char *path)
{
    const char *root = getenv("HANGING_FILES");
    char mark[4096];
    if (!root || !path || strncmp(path, root, strlen(root)) != 0)
        return;
    if (path[strlen(root)] != '/' && path[strlen(root)] != 0)
        return;
    snprintf(mark, sizeof mark, "%s.hang", root);
    while (syscall(SYS_access, mark, F_OK) == 0)
        usleep(20000);
}

static int opened(int at, const char *path, int flags, mode_t mode)
{
    wait_for(path);
    return syscall(SYS_openat, at, path, flags, mode);
}

#define MODE(flags, mode) \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = va_arg(rest, mode_t); \
    va_end(rest)

int open(const char *path, int flags, ...) { MODE(flags, mode); return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode); return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, mode); return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, mode); return opened(at, path, flags, mode); }

int mkdir(const char *path, mode_t mode)
{
    wait_for(path);
    return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

DIR *opendir(const char *path)
{
    DIR *(*next)(const char *) = dlsym(RTLD_NEXT, "opendir");
    wait_for(path);
    return next(path);
}

int lstat(const char *path, struct stat *found)
{
    wait_for(path);
    return fstatat(AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW);
}

int lstat64(const char *path, struct stat64 *found)
{
    wait_for(path);
    return fstatat64(AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW);
}
